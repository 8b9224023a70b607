//! Lists of names in a setting.

/// Takes a comma-separated list of names apart. White space around a name does not count; a name
/// in double quotes may hold commas, spaces and, doubled, quotes. Case is kept as it is written.
pub fn split_list(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = String::new();
    let mut inside = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if inside && characters.peek() == Some(&'"') => {
                characters.next();
                name.push('"');
            }
            '"' => inside = !inside,
            ',' if !inside => push(&mut names, &mut name),
            other => name.push(other),
        }
    }
    push(&mut names, &mut name);
    names
}

fn push(names: &mut Vec<String>, name: &mut String) {
    let finished = std::mem::take(name).trim().to_string();
    if !finished.is_empty() {
        names.push(finished);
    }
}

#[cfg(test)]
mod tests {
    use super::split_list;

    #[test]
    fn splits_and_trims() {
        assert_eq!(split_list("postgres"), ["postgres"]);
        assert_eq!(split_list(" a, B ,c "), ["a", "B", "c"]);
        assert_eq!(
            split_list("\"a,b\", \"say \"\"hi\"\"\""),
            ["a,b", "say \"hi\""]
        );
        assert!(split_list(" , ").is_empty());
    }
}
