//! The tidy checks, as a test.

#[test]
fn the_repository_is_tidy() {
    let complaints = xtask::tidy::complaints(&xtask::tidy::repository()).unwrap();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
