//! A mistake in SQL, with the line that holds it.

use forebay_analytics::syntax::SqlError;

/// `file:line:column: message`, the line, and a caret below the column.
pub fn show(file: &str, sql: &str, error: &SqlError) -> String {
    let at = error.at;
    if at.line == 0 {
        return format!("{file}: {}", error.message);
    }
    let mut shown = format!("{file}:{}:{}: {}", at.line, at.column, error.message);
    let Some(line) = sql.lines().nth(at.line as usize - 1) else {
        return shown;
    };
    // A tab stays one, so that the caret stands where the terminal puts the letter.
    let before: String = line
        .chars()
        .take(at.column.saturating_sub(1) as usize)
        .map(|letter| if letter == '\t' { '\t' } else { ' ' })
        .collect();
    shown.push_str(&format!("\n  {line}\n  {before}^"));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_analytics::bind;

    #[test]
    fn the_caret_stands_below_the_word() {
        let sql = "CREATE STREAM s (rms double) FROM 'a/+';\n\tSELECT 'ä', rsm FROM s";
        let error = bind::plan(sql).unwrap_err();
        assert_eq!(
            show("worn.sql", sql, &error),
            "worn.sql:2:14: unknown column `rsm`, did you mean `rms`?\n  \
             \tSELECT 'ä', rsm FROM s\n  \t            ^"
        );
    }

    #[test]
    fn a_mistake_at_the_end_of_the_text_is_shown_as_well() {
        let error = bind::plan("SELECT path FROM").unwrap_err();
        let shown = show("query", "SELECT path FROM", &error);
        assert!(shown.starts_with("query:1:"), "{shown}");
        assert!(shown.ends_with('^'), "{shown}");
    }
}
