//! Destinations that are not what they were: the link stops and says why.

use super::publisher::Publisher;
use super::relay::Weather;
use super::site::{Site, records};

/// A site name that leaves fewer than 200 characters for the topic.
const LONG_NAME: &str = "a-site-in-the-forest-behind-the-hills-beyond-the-river";

fn publish(site: &Site, path: &'static str, readings: usize) {
    let acknowledged = Publisher::start(site.mqtt.clone(), path, 0, readings).finish();
    assert_eq!(acknowledged.len(), readings);
}

#[test]
fn a_hub_that_lost_its_data_gets_nothing_and_the_gateway_goes_on() {
    let mut site = Site::start();
    publish(&site, "plant/press", 100);
    site.drained(100);
    site.lose_hub();
    publish(&site, "plant/press", 100);
    for partition in [0, 1] {
        let words = site.stopped_link("vibration", partition);
        let expected = "stopped: the destination is another cluster: cluster id is ";
        assert!(words.starts_with(expected), "{words}");
    }
    // What the gateway held before and what came since: none of it travels.
    let topics = site.hub().answer(&["topic", "list"]);
    assert_eq!(topics, "test.vibration    2 partitions  0 records\n");
    // Readings are taken in as before.
    publish(&site, "plant/press", 100);
    let kept = records(site.gateway(), "vibration");
    assert!(kept.iter().flatten().count() >= 300);
    assert_eq!(site.status()["uplink"]["connected"], true);
}

#[test]
fn a_recreated_topic_stops_its_own_link_only() {
    let site = Site::start();
    publish(&site, "plant/press", 100);
    publish(&site, "hall", 100);
    site.drained(200);
    site.hub().answer(&["topic", "delete", "test.vibration"]);
    publish(&site, "plant/press", 10);
    let words = site.stopped_link("vibration", 0);
    let expected = "stopped: the destination topic was recreated: topic id is ";
    assert!(words.starts_with(expected), "{words}");
    assert!(words.contains("reset"), "{words}");
    publish(&site, "hall", 100);
    site.until_equal("readings");
    let resent = records(site.hub(), "test.vibration");
    assert_eq!(resent.iter().flatten().count(), 0);
}

#[test]
fn a_topic_that_the_hub_refuses_does_not_hold_up_the_others() {
    let site = Site::named(LONG_NAME);
    // With the site in front of it the name is too long for a topic.
    let long = "x".repeat(200);
    site.gateway().answer(&["topic", "create", &long]);
    publish(&site, "hall", 50);
    site.until_equal("readings");
    let words = site.link_that("is refused", &long, 0, |link| {
        link["state"].as_str()?.contains("refused").then_some(())
    });
    let expected = format!("waiting: the destination refused topic {LONG_NAME}.{long}: ");
    assert!(words.starts_with(&expected), "{words}");
    assert!(words.contains("INVALID_TOPIC_EXCEPTION"), "{words}");

    // The same on a connection that begins with the refused topic.
    site.set(Weather::Cut);
    publish(&site, "hall", 50);
    site.set(Weather::Fair);
    site.until_equal("readings");
}
