# Medians of a scenario's csv (case,unit,value), and its ratios against what is asked of them.

function sort_values(count,    i, j, value) {
    for (i = 2; i <= count; i++) {
        value = values[i]
        for (j = i - 1; j > 0 && values[j] > value; j--) values[j + 1] = values[j]
        values[j + 1] = value
    }
}

function median(name,    count, i, parts) {
    count = split(all[name], parts, " ")
    for (i = 1; i <= count; i++) values[i] = parts[i] + 0
    sort_values(count)
    return count % 2 ? values[(count + 1) / 2] : (values[count / 2] + values[count / 2 + 1]) / 2
}

# The median of a's figures over b's, one by one; and from where to where they go, in `spread`.
function ratio(a, b,    x, y, count, others, i) {
    count = split(all[a], x, " ")
    others = split(all[b], y, " ")
    if (others < count) count = others
    for (i = 1; i <= count; i++) values[i] = y[i] > 0 ? x[i] / y[i] : 0
    sort_values(count)
    spread = sprintf("%.2f to %.2f", values[1], values[count])
    return count % 2 ? values[(count + 1) / 2] : (values[count / 2] + values[count / 2 + 1]) / 2
}

function shown(value) { return value >= 100 ? sprintf("%.0f", value) : sprintf("%.3g", value) }

function verdict(value, bound,    parts) {
    if (bound == "-") return ""
    split(bound, parts, " ")
    if (parts[1] == ">=") return value >= parts[2] ? "yes" : "**no**"
    return value <= parts[2] ? "yes" : "**no**"
}

NR > 1 {
    if (!($1 in all)) order[++cases] = $1
    all[$1] = all[$1] " " $3
    unit[$1] = $2
}

END {
    printf "## %s\n\n| case | median | unit |\n|---|---:|---|\n", title
    for (i = 1; i <= cases; i++) {
        middle[order[i]] = median(order[i])
        printf "| %s | %s | %s |\n", order[i], shown(middle[order[i]]), unit[order[i]]
    }
    while ((getline line < targets) > 0) {
        split(line, t, "\t")
        if (!(t[1] in middle) || (t[2] != "-" && !(t[2] in middle))) continue
        if (!headed++) printf "\n| ratio | is | spread | asked for | reached |\n|---|---:|---|---|---|\n"
        if (t[2] == "-") {
            printf "| %s | %s %s | | %s | %s |\n", t[1], shown(middle[t[1]]), unit[t[1]], t[3], verdict(middle[t[1]], t[3])
            continue
        }
        value = ratio(t[1], t[2])
        printf "| %s / %s | %.2f | %s | %s | %s |\n", t[1], t[2], value, spread, t[3], verdict(value, t[3])
    }
}
