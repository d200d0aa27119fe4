//! Protection, identities and trust.

use std::path::Path;

use forebay_opcua::certificates::Pki;
use forebay_opcua::client::Notice;
use forebay_opcua::security::{Mode, Policy, Security};
use forebay_opcua::settings::{Identity, Settings};

use super::plant::{Options, Plant, USER};
use super::watcher::{Watcher, node, settings};

fn options() -> Options {
    Options {
        variables: 1,
        ..Options::default()
    }
}

fn protected(port: u16, dir: &Path) -> Settings {
    let mut settings = settings(port, &dir.join("client"));
    settings.security = Security::Exactly(Policy::Basic256Sha256, Mode::SignAndEncrypt);
    settings.nodes = vec![node("v0")];
    // The certificate that the server makes for itself names no address.
    settings.check_hostname = false;
    settings
}

/// The fingerprint of the certificate that is not trusted.
async fn untrusted(watcher: &mut Watcher) -> String {
    let find = |seen: &Watcher| {
        seen.notices.iter().find_map(|notice| match notice {
            Notice::Untrusted { fingerprint, .. } => Some(fingerprint.clone()),
            _ => None,
        })
    };
    watcher
        .until("untrusted certificate", |seen| find(seen).is_some())
        .await;
    find(watcher).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_trusted_by_a_person_and_a_replaced_one_again() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(&dir.path().join("server"), &options());
    let mut watcher = Watcher::new(protected(plant.port, dir.path()));
    let first = untrusted(&mut watcher).await;
    assert!(watcher.samples.is_empty());
    let pki = Pki::open(&dir.path().join("client")).unwrap();
    pki.trust(&first).unwrap();
    watcher.value("v0", 0.0).await;
    watcher.forget();
    // The server is set up anew: another key, another certificate.
    let port = plant.kill();
    let plant = Plant::start(&dir.path().join("other"), &Options { port, ..options() });
    let second = untrusted(&mut watcher).await;
    assert_ne!(first, second);
    assert!(watcher.numbers("v0").is_empty(), "no value of a stranger");
    pki.trust(&second).unwrap();
    plant.set(&[("v0", 3.0)]);
    watcher.value("v0", 3.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_policy_takes_anonymous_clients_and_users() {
    let dir = tempfile::tempdir().unwrap();
    let password_file = dir.path().join("password");
    std::fs::write(&password_file, format!("{}\n", USER.1)).unwrap();
    let plant = Plant::start(&dir.path().join("server"), &options());
    let identities = [
        Identity::Anonymous,
        Identity::User {
            name: USER.0.to_owned(),
            password_file,
        },
    ];
    let mut watcher = Watcher::new(protected(plant.port, dir.path()));
    let fingerprint = untrusted(&mut watcher).await;
    drop(watcher);
    Pki::open(&dir.path().join("client"))
        .unwrap()
        .trust(&fingerprint)
        .unwrap();
    let policies = [
        Policy::Basic256Sha256,
        Policy::Aes128Sha256RsaOaep,
        Policy::Aes256Sha256RsaPss,
    ];
    for policy in policies {
        for mode in [Mode::Sign, Mode::SignAndEncrypt] {
            for identity in &identities {
                let mut settings = protected(plant.port, dir.path());
                settings.security = Security::Exactly(policy, mode);
                settings.identity = identity.clone();
                let mut watcher = Watcher::new(settings);
                watcher.value("v0", 0.0).await;
                let (policy, mode) = (policy.name(), mode.name());
                let chosen = Notice::Endpoint { policy, mode };
                assert!(watcher.notices.contains(&chosen), "{:?}", watcher.notices);
                watcher.client.close().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_certificate_is_not_signed_with_a_broken_policy() {
    // This server knows no other; asyncua and node-opcua do in interop.
    let dir = tempfile::tempdir().unwrap();
    let holder = Pki::open(&dir.path().join("holder")).unwrap();
    let holder = holder.own(std::time::SystemTime::now()).unwrap();
    let options = Options {
        user_certificate: Some(holder.cert_path.clone()),
        ..options()
    };
    let plant = Plant::start(&dir.path().join("server"), &options);
    let mut settings = protected(plant.port, dir.path());
    settings.identity = Identity::Certificate {
        certificate: holder.cert_path,
        key: holder.key_path,
    };
    let mut watcher = Watcher::new(settings);
    watcher
        .until("refusal", |seen| {
            seen.has_standing(|standing| {
                format!("{standing:?}").contains("certificate by Basic128Rsa15, which is broken")
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_and_tried_again_with_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::start(&dir.path().join("server"), &options());
    let password_file = dir.path().join("password");
    std::fs::write(&password_file, "wrong\n").unwrap();
    let mut settings = protected(plant.port, dir.path());
    settings.identity = Identity::User {
        name: USER.0.to_owned(),
        password_file: password_file.clone(),
    };
    let mut watcher = Watcher::new(settings);
    let fingerprint = untrusted(&mut watcher).await;
    Pki::open(&dir.path().join("client"))
        .unwrap()
        .trust(&fingerprint)
        .unwrap();
    watcher
        .until("refusal", |seen| {
            seen.has_standing(|standing| {
                let text = format!("{standing:?}");
                text.contains("BadUserAccessDenied") || text.contains("BadIdentityTokenRejected")
            })
        })
        .await;
    assert!(watcher.samples.is_empty());
    std::fs::write(&password_file, USER.1).unwrap();
    watcher.value("v0", 0.0).await;
}
