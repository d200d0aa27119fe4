//! The way out of a stopped link: `forebay uplink reset`.

use super::publisher::Publisher;
use super::running::forebay;
use super::site::{Site, end, records};

fn reset(site: &Site, link: &str) -> (Option<i32>, String) {
    let output = forebay(&["uplink", "reset", "--config", &site.gateway_config(), link]);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("answers are UTF-8");
    (output.status.code(), said)
}

#[test]
fn a_reset_link_sends_everything_to_a_hub_that_lost_it() {
    let mut site = Site::start();
    Publisher::start(site.mqtt.clone(), "hall", 0, 100).finish();
    site.until_equal("readings");
    site.lose_hub();
    site.stopped_link("readings", 0);

    let (code, said) = reset(&site, "readings");
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with("forebay: a running gateway holds "),
        "{said}"
    );
    assert_eq!(end(site.hub(), "test.readings"), 0);

    site.stop_gateway();
    let (code, said) = reset(&site, "reading");
    assert_eq!(code, Some(1));
    let expected = "forebay: nothing to reset for reading; the links are readings/0\n";
    assert_eq!(said, expected);
    let (code, said) = reset(&site, "readings/0");
    assert_eq!(code, Some(0), "{said}");
    let expected = "reset readings/0: test.readings/0 had everything below offset 1";
    assert!(said.starts_with(expected), "{said}");

    site.start_gateway();
    site.until_equal("readings");
    let there = records(site.hub(), "test.readings");
    assert!(there[0].len() >= 100);
    assert_eq!(there[0][0].offset, 0);
}

#[test]
fn a_reset_of_a_healthy_link_repeats_nothing() {
    let mut site = Site::start();
    Publisher::start(site.mqtt.clone(), "hall", 0, 100).finish();
    site.until_equal("readings");
    site.stop_gateway();
    let (code, said) = reset(&site, "readings/0");
    assert_eq!(code, Some(0), "{said}");
    site.start_gateway();
    Publisher::start(site.mqtt.clone(), "hall", 1_000, 100).finish();
    let audit = site.drained(200);
    assert_eq!(audit["clean"], true, "{audit}");
    site.until_equal("readings");
}
