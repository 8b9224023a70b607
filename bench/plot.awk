# A bar chart (SVG) of a scenario's medians (case,unit,value), one bar a case, grouped by unit.

function median(name,    count, i, j, value, values, parts) {
    count = split(all[name], parts, " ")
    for (i = 1; i <= count; i++) {
        value = parts[i] + 0
        for (j = i - 1; j > 0 && values[j] > value; j--) values[j + 1] = values[j]
        values[j + 1] = value
    }
    return count % 2 ? values[(count + 1) / 2] : (values[count / 2] + values[count / 2 + 1]) / 2
}

function shown(value) { return value >= 100 ? sprintf("%.0f", value) : sprintf("%.3g", value) }

function escaped(text) { gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); return text }

NR > 1 {
    if (!($1 in all)) order[++cases] = $1
    all[$1] = all[$1] " " $3
    unit[$1] = $2
}

END {
    for (i = 1; i <= cases; i++) {
        name = order[i]
        value[name] = median(name)
        if (value[name] > most[unit[name]]) most[unit[name]] = value[name]
    }
    width = 760; bar = 22; left = 280; room = 340
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", width, 40 + cases * bar
    printf "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n<text x=\"8\" y=\"20\" font-size=\"14\">%s</text>\n", escaped(title)
    for (i = 1; i <= cases; i++) {
        name = order[i]
        y = 30 + (i - 1) * bar
        long = most[unit[name]] > 0 ? room * value[name] / most[unit[name]] : 0
        colour = name ~ /^my_worker/ ? "#336791" : "#b0b0b0"
        printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left - 6, y + 14, escaped(name)
        printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", left, y + 2, long, bar - 6, colour
        printf "<text x=\"%.1f\" y=\"%d\">%s %s</text>\n", left + long + 5, y + 14, shown(value[name]), escaped(unit[name])
    }
    print "</svg>"
}
