//! What TLS costs durable MQTT ingest: the same node, the same load, with and
//! without it in turns.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use xtask::failure::{During, Failure, Outcome};
use xtask::node::{Node, Spec};

use crate::figures::{Report, percentile_ms, ratio};
use crate::load::{CONNECTIONS, Pace, READING_SIZE, Reached, publish, publish_over_tls};
use crate::machine::{Setting, said};

/// Length of one measurement in seconds.
const SECONDS: u64 = 5;

#[derive(Default)]
struct Side {
    rates: Vec<f64>,
    p99: Vec<f64>,
    cpu_us: Vec<f64>,
    generator: Vec<f64>,
}

impl Side {
    fn note(&mut self, mut reached: Reached, length: Duration) {
        let count = reached.rate * length.as_secs_f64();
        self.rates.push(reached.rate);
        self.p99.push(percentile_ms(&mut reached.latencies, 0.99));
        self.cpu_us.push(ratio(reached.used.cpu_s * 1e6, count));
        self.generator.push(reached.generator_cores);
    }

    fn report(&self, name: &str, report: &mut Report) {
        let mut add = |what: &str, rounds| report.median(&format!("{name} {what}"), rounds);
        add("acknowledged per second", &self.rates);
        add("PUBACK p99 ms", &self.p99);
        add("CPU us per publish", &self.cpu_us);
        add("generator cores meanwhile", &self.generator);
    }
}

/// Measures both in turns. The generator encrypts on the same cores, so the
/// rate pays for both ends; the CPU per publish is the node's own.
pub fn measure(setting: &Setting, report: &mut Report) -> Outcome {
    let length = Duration::from_secs(setting.seconds.unwrap_or(SECONDS));
    report.fact("TLS", "1.3, the cipher that both sides prefer");
    report.fact(
        "load",
        format!(
            "{CONNECTIONS} connections, {} in flight each, {READING_SIZE} bytes, QoS 1, {length:?}",
            setting.window
        ),
    );
    let pace = Pace::Window(setting.window);
    let (mut plain, mut tls) = (Side::default(), Side::default());
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for round in 0..setting.rounds {
        let scratch = setting.scratch()?;
        let files = scratch.path().join("tls");
        let mut make = Command::new(&setting.program);
        said(
            make.args(["cert", "init", "--name", "hub", "--dir"])
                .arg(&files),
        );
        let file = |name: &str| format!("{:?}", files.join(name).display().to_string());
        let node = Node::start(&Spec {
            mqtt: "tls_listen = \"127.0.0.1:0\"\n".to_owned(),
            sections: format!(
                "[tls]\ncertificate = {}\nkey = {}\n",
                file("server.crt"),
                file("server.key")
            ),
            ..Spec::gateway(&setting.program, "ingest", scratch.path())
        })?;
        let secure = node.ports.mqtt_tls;
        let secure = secure.ok_or_else(|| Failure::new("the node has no TLS port"))?;
        let config = trusting(&files.join("ca.crt"))?;
        let without = publish(node.mqtt()?, node.id(), pace, length)?;
        let with = publish_over_tls(secure, &config, node.id(), pace, length)?;
        rates.push(ratio(with.rate, without.rate));
        plain.note(without, length);
        tls.note(with, length);
        if let (Some(with), Some(without)) = (tls.cpu_us.last(), plain.cpu_us.last()) {
            costs.push(ratio(*with, *without));
        }
        eprintln!("round {} of {}", round + 1, setting.rounds);
    }
    plain.report("plain", report);
    tls.report("TLS", report);
    report.median("rate, TLS to plain", &rates);
    report.median("CPU of the node per publish, TLS to plain", &costs);
    Ok(())
}

fn trusting(ca: &Path) -> Outcome<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca).during("the authority")?;
    roots.add(ca).during("the authority")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .during("TLS")?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}
