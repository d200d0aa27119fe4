//! Names of nodes as levels of a path.

/// Characters of one level at most. Browse names have up to 512 (Part 3, 8.3);
/// an MQTT topic name has 65,535 bytes in all, and nobody types more than this.
const LEVEL_CHARACTERS_MAX: usize = 128;

/// A browse name as one level of a path: `/`, the MQTT wildcards `+` and `#`
/// and control characters become `_`, blanks around it go, and nothing at all
/// is `_`.
pub fn level(name: &str) -> String {
    let level: String = name
        .trim()
        .chars()
        .take(LEVEL_CHARACTERS_MAX)
        .map(|character| match character {
            '/' | '+' | '#' => '_',
            control if control.is_control() => '_',
            other => other,
        })
        .collect();
    if level.is_empty() {
        return "_".to_owned();
    }
    level
}

/// A name that is not in `taken`: itself, or with `~2`, `~3` … behind it.
pub fn unique(name: String, mut taken: impl FnMut(&str) -> bool) -> String {
    if !taken(&name) {
        return name;
    }
    (2_u64..)
        .map(|number| format!("{name}~{number}"))
        .find(|candidate| !taken(candidate))
        .expect("2^64 names are not all taken")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_level_cannot_have_is_replaced() {
        let cases = [
            ("Speed", "Speed"),
            (" Motor 1 ", "Motor 1"),
            ("a/b+c#d", "a_b_c_d"),
            ("nul\0tab\t", "nul_tab"),
            ("", "_"),
            ("   ", "_"),
            ("Größe", "Größe"),
        ];
        for (name, expected) in cases {
            assert_eq!(level(name), expected, "{name:?}");
        }
        assert_eq!(level(&"ü".repeat(1_000)).chars().count(), 128);
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let taken = ["Speed", "Speed~2"];
        let name = unique("Speed".to_owned(), |name| taken.contains(&name));
        assert_eq!(name, "Speed~3");
        assert_eq!(unique("Load".to_owned(), |_| false), "Load");
    }
}
