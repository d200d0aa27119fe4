//! A look at a server before it is configured.

use forebay_opcua::pattern::Pattern;
use forebay_opcua::probe::{ProbeError, nodes, offers};
use forebay_opcua::sample::Quality;
use forebay_opcua::security::{Mode, Policy, Security};
use forebay_opcua::value::Value;

use super::plant::{Options, Plant};
use super::watcher::settings;

#[tokio::test]
async fn a_server_says_what_it_offers_and_to_whom() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(&dir.path().join("server"), &Options::default());
    let offers = offers(&settings(plant.port, &dir.path().join("pki")))
        .await
        .unwrap();
    assert_eq!(
        (offers.name.as_str(), offers.application_uri.as_str()),
        ("plant", "urn:plant")
    );
    assert!(offers.certificate.is_some());
    assert_eq!(offers.endpoints.len(), 7);
    let best = offers
        .endpoints
        .iter()
        .find(|offer| {
            (offer.policy.as_str(), offer.mode) == ("Aes256Sha256RsaPss", "SignAndEncrypt")
        })
        .expect("the strongest is there");
    assert!(best.is_spoken);
    assert_eq!(best.identities, ["anonymous", "user"]);
}

#[tokio::test]
async fn nodes_come_with_type_value_and_access() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        variables: 2,
        ..Options::default()
    };
    let plant = Plant::start(&dir.path().join("server"), &options);
    plant.set(&[("v1", 21.5)]);
    let mut settings = settings(plant.port, &dir.path().join("pki"));
    settings.browse = vec![Pattern::parse("Objects/Line1/**").unwrap()];
    let listing = nodes(settings.clone()).await.unwrap();
    assert_eq!(listing.protection, ("None", "None"));
    assert!(!listing.is_cut);
    let found: Vec<_> = listing
        .nodes
        .iter()
        .map(|node| (node.path.as_str(), node.kind, node.is_writable))
        .collect();
    assert_eq!(
        found,
        [
            ("Objects/Line1/flag", Some("Boolean"), false),
            ("Objects/Line1/setpoint", Some("Int16"), true),
            ("Objects/Line1/v0", Some("Double"), false),
            ("Objects/Line1/v1", Some("Double"), false),
        ]
    );
    let v1 = &listing.nodes[3];
    assert_eq!(v1.id.to_string(), "nsu=urn:plant:line1;s=v1");
    assert_eq!(
        (&v1.sample.value, v1.sample.quality),
        (&Value::Float(21.5), Quality::Good)
    );
    settings.max_nodes = 2;
    let cut = nodes(settings).await.unwrap();
    assert_eq!((cut.nodes.len(), cut.is_cut), (2, true));
}

#[tokio::test]
async fn a_server_that_is_not_trusted_shows_no_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(&dir.path().join("server"), &Options::default());
    let mut settings = settings(plant.port, &dir.path().join("pki"));
    settings.security = Security::Exactly(Policy::Basic256Sha256, Mode::SignAndEncrypt);
    settings.browse = vec![Pattern::parse("Objects/**").unwrap()];
    let error = nodes(settings).await.unwrap_err();
    assert!(matches!(error, ProbeError::Open(_)), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}
