use std::str::FromStr;
use std::time::Duration;

use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePublicKey};
use rsa::signature::Keypair;

use super::*;

fn pki() -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(&dir.path().join("pki")).unwrap();
    (dir, pki)
}

#[test]
fn our_own_is_made_once_and_kept() {
    let (dir, pki) = pki();
    let now = SystemTime::now();
    let own = pki.own(now).unwrap();
    assert!(own.application_uri.starts_with("urn:") && own.application_uri.ends_with(":forebay"));
    assert_eq!(
        own.cert.application_uris(),
        std::slice::from_ref(&own.application_uri)
    );
    assert!((1_823..=1_825).contains(&own.cert.days_left(now)));
    assert_eq!(pki.own(now).unwrap().cert, own.cert);
    let key = fs::read_to_string(&own.key_path).unwrap();
    RsaPrivateKey::from_pkcs8_pem(&key).unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(&own.key_path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Half of it is not replaced: the other half may be installed at servers.
    fs::remove_file(&own.key_path).unwrap();
    assert!(matches!(pki.own(now), Err(PkiError::Half { .. })));
    // Trusting it is trusting it, and nothing else is wrong with it.
    pki.reject(&own.cert).unwrap();
    let check = |host, uri| {
        let trusted = pki.trusted().unwrap();
        let check = Check {
            trusted: &trusted,
            now: now + Duration::from_secs(3_600),
            host,
            application_uri: uri,
        };
        check.problems(std::slice::from_ref(&own.cert))
    };
    let uri = own.application_uri.as_str();
    assert_eq!(check(None, uri), [Problem::Untrusted]);
    let fingerprint = own.cert.fingerprint();
    assert!(matches!(
        pki.trust(&fingerprint[..4]),
        Err(PkiError::Fingerprint { count: 1, .. })
    ));
    assert_eq!(
        pki.trust(&fingerprint[..12].to_uppercase()).unwrap(),
        own.cert
    );
    assert!(pki.rejected().unwrap().is_empty());
    assert!(matches!(
        pki.trust(&fingerprint),
        Err(PkiError::Fingerprint { count: 0, .. })
    ));
    assert_eq!(check(None, uri), []);
    assert!(matches!(
        check(Some("elsewhere"), uri)[..],
        [Problem::Host { .. }]
    ));
    assert!(matches!(
        check(None, "urn:x")[..],
        [Problem::ApplicationUri { .. }]
    ));
    drop(dir);
}

/// A controller whose clock is days behind refuses what has not begun.
#[test]
fn our_own_is_valid_on_a_clock_that_is_days_behind() {
    let (_dir, pki) = pki();
    let now = SystemTime::now();
    let own = pki.own(now).unwrap();
    let problems = |days_behind: u64| {
        let check = Check {
            trusted: std::slice::from_ref(&own.cert),
            now: now - Duration::from_secs(days_behind * 86_400),
            host: None,
            application_uri: &own.application_uri,
        };
        check.problems(std::slice::from_ref(&own.cert))
    };
    assert_eq!(problems(6), []);
    assert_eq!(problems(8), [Problem::NotYetValid]);
}

#[test]
fn our_own_is_signed_by_itself_and_like_no_other() {
    let ((_here, here), (_there, there)) = (pki(), pki());
    let now = SystemTime::now();
    let [own, other] = [here, there].map(|pki| pki.own(now).unwrap().cert);
    assert!(own.has_issued(&own) && !other.has_issued(&own));
    let serial = |cert: &Cert| cert.parsed.tbs_certificate.serial_number.clone();
    assert_ne!(serial(&own), serial(&other));
    assert!(own.subject().contains("CN=Forebay"), "{}", own.subject());
    // It is not taken for an authority that trusts others.
    assert!(!own.may_issue(now));
}

#[test]
fn a_clock_that_was_never_set_makes_no_certificate() {
    let (_dir, pki) = pki();
    let boot = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
    assert!(matches!(pki.own(boot), Err(PkiError::Clock(60))));
    assert!(pki.own(SystemTime::now()).is_ok());
}

#[test]
fn days_left_count_down_through_zero() {
    let (_dir, pki) = pki();
    let cert = pki.own(SystemTime::now()).unwrap().cert;
    let end = cert.not_after();
    let hour = Duration::from_secs(3_600);
    assert_eq!(cert.days_left(end - 25 * hour), 1);
    assert_eq!(cert.days_left(end - hour), 0);
    assert_eq!(cert.days_left(end + hour), -1);
}

struct Authority {
    key: RsaPrivateKey,
    cert: Cert,
    name: x509_cert::name::Name,
}

/// A certificate for `name`, signed by `issuer` or by itself.
fn issue(name: &str, issuer: Option<&Authority>, is_authority: bool, days: u64) -> Authority {
    use x509_cert::builder::{Builder, CertificateBuilder, Profile};
    use x509_cert::der::asn1::Ia5String;
    use x509_cert::ext::pkix::SubjectAltName;
    use x509_cert::ext::pkix::name::GeneralName;
    let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2_048).unwrap();
    let name = x509_cert::name::Name::from_str(&format!("CN={name}")).unwrap();
    let signer = SigningKey::<Sha256>::new(issuer.map_or(&key, |issuer| &issuer.key).clone());
    let public = key.to_public_key().to_public_key_der().unwrap();
    let profile = match (issuer, is_authority) {
        (_, true) if issuer.is_none() => Profile::Root,
        (Some(issuer), true) => Profile::SubCA {
            issuer: issuer.name.clone(),
            path_len_constraint: None,
        },
        (Some(issuer), false) => Profile::Leaf {
            issuer: issuer.name.clone(),
            enable_key_agreement: false,
            enable_key_encipherment: true,
            include_subject_key_identifier: true,
        },
        _ => Profile::Manual { issuer: None },
    };
    let _ = signer.verifying_key();
    let mut builder = CertificateBuilder::new(
        profile,
        x509_cert::serial_number::SerialNumber::from(7_u32),
        x509_cert::time::Validity::from_now(Duration::from_secs(days * 86_400)).unwrap(),
        name.clone(),
        x509_cert::spki::SubjectPublicKeyInfoOwned::from_der(public.as_bytes()).unwrap(),
        &signer,
    )
    .unwrap();
    if !is_authority {
        let uri = Ia5String::new("urn:plc").unwrap();
        let names = vec![GeneralName::UniformResourceIdentifier(uri)];
        builder.add_extension(&SubjectAltName(names)).unwrap();
    }
    let der = builder.build().unwrap().to_der().unwrap();
    Authority {
        key,
        cert: Cert::from_der(&der).unwrap(),
        name,
    }
}

#[test]
fn an_authority_in_the_trust_list_trusts_what_it_issued() {
    let root = issue("Plant", None, true, 100);
    let middle = issue("Hall", Some(&root), true, 100);
    let leaf = issue("plc", Some(&middle), false, 10);
    let chain = vec![leaf.cert.clone(), middle.cert.clone()];
    let problems = |trusted: &[Cert], chain: &[Cert], after_days: u64| {
        let check = Check {
            trusted,
            now: SystemTime::now() + Duration::from_secs(after_days * 86_400),
            host: None,
            application_uri: "urn:plc",
        };
        check.problems(chain)
    };
    let root_only = [root.cert.clone()];
    assert_eq!(problems(&root_only, &chain, 1), []);
    // Without the certificate between them there is no way to the root.
    assert_eq!(problems(&root_only, &chain[..1], 1), [Problem::Untrusted]);
    assert_eq!(
        problems(std::slice::from_ref(&middle.cert), &chain[..1], 1),
        []
    );
    // The chain of the server itself trusts nothing.
    let whole = [chain.clone(), vec![root.cert.clone()]].concat();
    assert_eq!(problems(&[], &whole, 1), [Problem::Untrusted]);
    assert_eq!(problems(&root_only, &chain, 11), [Problem::Expired]);
    assert_eq!(
        problems(&root_only, &chain, 101),
        [Problem::Untrusted, Problem::Expired]
    );
    // Another authority of the same name did not sign it.
    let other = issue("Plant", None, true, 100);
    assert_eq!(problems(&[other.cert], &chain, 1), [Problem::Untrusted]);
    // A leaf issues nothing.
    let forged = issue("forged", Some(&leaf), false, 10);
    let chain = vec![forged.cert, leaf.cert.clone()];
    assert_eq!(
        problems(std::slice::from_ref(&leaf.cert), &chain, 1),
        [Problem::Untrusted]
    );
    // Chains come as one after the other; PEM files may hold several.
    let bytes = [leaf.cert.der(), middle.cert.der()].concat();
    assert_eq!(
        Cert::chain_from_der(&bytes).unwrap(),
        [leaf.cert.clone(), middle.cert.clone()]
    );
    assert!(Cert::chain_from_der(&bytes[..bytes.len() - 1]).is_none());
    assert!(Cert::chain_from_der(&[]).is_none());
    let (dir, pki) = pki();
    use x509_cert::der::EncodePem;
    let pem = |cert: &Cert| {
        cert.parsed
            .to_pem(x509_cert::der::pem::LineEnding::LF)
            .unwrap()
    };
    let text = format!("a comment\n{}\n{}", pem(&middle.cert), pem(&root.cert));
    fs::write(dir.path().join("pki/trusted/any name.pem"), text).unwrap();
    fs::write(dir.path().join("pki/trusted/README"), "nothing").unwrap();
    assert_eq!(pki.trusted().unwrap(), [middle.cert, root.cert]);
}

#[test]
fn a_pinned_store_holds_one_certificate() {
    let (_dir, pki) = pki();
    let cert = pki.own(SystemTime::now()).unwrap().cert;
    let dir = pki.pin("../cell/4", "a.der", &cert).unwrap();
    fs::write(dir.join("trusted/b.der"), "x").unwrap();
    let again = pki.pin("../cell/4", "a.der", &cert).unwrap();
    assert_eq!(dir, again);
    assert_eq!(fs::read_dir(dir.join("trusted")).unwrap().count(), 1);
}
