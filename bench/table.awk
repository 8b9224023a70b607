# A scenario's medians, and its ratios against what is asked of them; after figures.awk.

function verdict(value, bound,    parts) {
    if (bound == "-") return ""
    split(bound, parts, " ")
    if (parts[1] == ">=") return value >= parts[2] ? "yes" : "**no**"
    return value <= parts[2] ? "yes" : "**no**"
}

function from_to(    text) { return shown(least) " to " shown(most) }

END {
    printf "## %s\n\n| case | median | spread | unit |\n|---|---:|---|---|\n", title
    for (i = 1; i <= cases; i++) {
        middle[order[i]] = median(order[i])
        printf "| %s | %s | %s | %s |\n", order[i], shown(middle[order[i]]), (taken[order[i]] > 1 ? from_to() : ""), unit[order[i]]
    }
    while ((getline line < targets) > 0) {
        split(line, t, "\t")
        if (!(t[1] in middle) || (t[2] != "-" && !(t[2] in middle))) continue
        if (t[2] == "-") {
            value = median(t[1])
            what = t[1]
            is = shown(value) " " unit[t[1]]
        } else {
            value = ratio(t[1], t[2])
            if (!pairs) continue
            what = t[1] " / " t[2]
            is = shown(value)
        }
        if (!headed++) printf "\n| ratio | is | spread | asked for | reached |\n|---|---:|---|---|---|\n"
        printf "| %s | %s | %s | %s | %s |\n", what, is, from_to(), t[3], verdict(value, t[3])
    }
}
