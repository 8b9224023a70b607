# A bar chart (SVG) of a scenario's medians, one bar a case, each unit with a scale of its own; a thin
# line goes from the lowest to the highest figure. After figures.awk.

function escaped(text) { gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); return text }

function bar_length(value, name) { return longest[unit[name]] > 0 ? room * value / longest[unit[name]] : 0 }

END {
    for (i = 1; i <= cases; i++) {
        name = order[i]
        value[name] = median(name)
        low[name] = least
        high[name] = most
        if (most > longest[unit[name]]) longest[unit[name]] = most
        if (length(name) > widest) widest = length(name)
    }
    bar = 22
    left = 20 + 6.6 * widest
    room = 360
    width = left + room + 120
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", width, 44 + cases * bar
    printf "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n<text x=\"12\" y=\"22\" font-size=\"15\">%s</text>\n", escaped(title)
    for (i = 1; i <= cases; i++) {
        name = order[i]
        y = 34 + (i - 1) * bar
        colour = name ~ /loop|graphile|pg-boss|procrastinate|PgQ|pgmq|pg_cron|LISTEN|plain|pg_notify|small queue/ ? "#b0b0b0" : "#5a8fc0"
        printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left - 8, y + 14, escaped(name)
        printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", left, y + 3, bar_length(value[name], name), bar - 8, colour
        if (taken[name] > 1)
            printf "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#404040\"/>\n",
                left + bar_length(low[name], name), y + 10, left + bar_length(high[name], name), y + 10
        printf "<text x=\"%.1f\" y=\"%d\">%s %s</text>\n", left + bar_length(high[name], name) + 5, y + 14, shown(value[name]), escaped(unit[name])
    }
    print "</svg>"
}
