# Reads a scenario's csv (round,unit,value,"case") for table.awk and plot.awk. The case may have commas.

NR > 1 {
    name = $0
    sub(/^[^"]*"/, "", name)
    sub(/"$/, "", name)
    if (!(name in unit)) order[++cases] = name
    unit[name] = $2
    i = ++taken[name]
    round_of[name, i] = $1
    line_of[name, i] = NR
    figure[name, i] = $3 + 0
}

# The median of values[1 .. count], which it sorts.
function middle_of(count,    i, j, value) {
    for (i = 2; i <= count; i++) {
        value = values[i]
        for (j = i - 1; j > 0 && values[j] > value; j--) values[j + 1] = values[j]
        values[j + 1] = value
    }
    if (!count) return 0
    return count % 2 ? values[(count + 1) / 2] : (values[count / 2] + values[count / 2 + 1]) / 2
}

# The spread of sorted values, `least` and `most`; of more than twenty the half in the middle.
function spread_of(count,    out) {
    out = count > 20 ? int(count / 4) : 0
    least = values[1 + out]
    most = values[count - out]
}

# The median of a case, and its spread.
function median(name,    i, middle) {
    for (i = 1; i <= taken[name]; i++) values[i] = figure[name, i]
    middle = middle_of(taken[name])
    spread_of(taken[name])
    return middle
}

# The figure of `name` that was taken nearest to the i-th of `other`, in the same round; 0 if there is none.
function neighbour(name, other, i,    j, best, distance, far) {
    for (j = 1; j <= taken[name]; j++) {
        if (round_of[name, j] != round_of[other, i]) continue
        far = line_of[name, j] - line_of[other, i]
        if (far < 0) far = -far
        if (!best || far < distance) { best = j; distance = far }
    }
    return best
}

# The median of the ratios of neighbours, and their spread; `pairs` of them. Each figure of the
# case with fewer figures counts once.
function ratio(a, b,    i, j, fewer, x, y, middle) {
    fewer = taken[a] < taken[b] ? a : b
    pairs = 0
    for (i = 1; i <= taken[fewer]; i++) {
        j = neighbour(fewer == a ? b : a, fewer, i)
        if (!j) continue
        x = fewer == a ? figure[a, i] : figure[a, j]
        y = fewer == a ? figure[b, j] : figure[b, i]
        if (y > 0) values[++pairs] = x / y
    }
    middle = middle_of(pairs)
    spread_of(pairs)
    return middle
}

function shown(value) {
    if (value >= 100 || value == int(value)) return sprintf("%.0f", value)
    return value >= 10 ? sprintf("%.1f", value) : sprintf("%.2f", value)
}
