//! Did you mean.

/// The candidate that is closest to what was written, if it is close: at most a
/// third of the letters differ, and at least one letter is the same.
pub fn closest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).max(1);
    candidates
        .map(|candidate| {
            let distance = distance(&written.to_lowercase(), &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| {
            *distance <= allowed && *distance < candidate.chars().count()
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// `, did you mean …?` or nothing.
pub fn hint<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    closest(written, candidates).map_or(String::new(), |candidate| {
        format!(", did you mean `{candidate}`?")
    })
}

/// Letters to insert, delete, change or swap with a neighbour.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let width = right.len() + 1;
    let mut rows = vec![0; (left.len() + 1) * width];
    for row in 0..=left.len() {
        for column in 0..=right.len() {
            let at = row * width + column;
            if row == 0 || column == 0 {
                rows[at] = row + column;
                continue;
            }
            let change = usize::from(left[row - 1] != right[column - 1]);
            let mut best = (rows[at - 1] + 1)
                .min(rows[at - width] + 1)
                .min(rows[at - width - 1] + change);
            if row > 1
                && column > 1
                && left[row - 1] == right[column - 2]
                && left[row - 2] == right[column - 1]
            {
                best = best.min(rows[at - 2 * width - 2] + 1);
            }
            rows[at] = best;
        }
    }
    rows[left.len() * width + right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_a_finger_is_recognised() {
        let columns = ["vibration", "temperature", "path"];
        for (written, meant) in [
            ("vibraton", Some("vibration")),
            ("tempreature", Some("temperature")),
            ("PATH", Some("path")),
            ("speed", None),
            ("x", None),
        ] {
            assert_eq!(closest(written, columns.into_iter()), meant, "{written}");
        }
    }
}
