//! A new configuration for a running node.
//!
//! Devices change while everything else goes on. What is bound to a port, the
//! disk or a route is named in the answer and waits for a restart. A file with
//! mistakes changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::access::Access;
use crate::commands::desk::Desk;
use crate::config::{Config, ConfigError};
use crate::devices::Devices;
use crate::status::ReloadReport;
use crate::tls::ServerTls;

/// Reads the configuration file again.
pub struct Reloader {
    file: PathBuf,
    devices: Option<Arc<Devices>>,
    desk: Option<Desk>,
    tls: Option<Arc<ServerTls>>,
    access: Access,
    /// What runs. Also keeps reloads one after the other.
    running: Mutex<Config>,
}

impl Reloader {
    /// A reloader of a node that runs `config`, read from `file`.
    pub fn new(
        file: PathBuf,
        config: Config,
        devices: Option<Arc<Devices>>,
        desk: Option<Desk>,
        tls: Option<Arc<ServerTls>>,
        access: Access,
    ) -> Self {
        Self {
            file,
            devices,
            desk,
            tls,
            access,
            running: Mutex::new(config),
        }
    }

    /// Reads the file and applies what can be applied.
    pub async fn reload(&self) -> ReloadReport {
        let mut running = self.running.lock().await;
        let file = self.file.clone();
        let loading = tokio::task::spawn_blocking(move || Config::load(&file));
        let loaded = match loading.await {
            Ok(Ok(config)) => config,
            Ok(Err(ConfigError::Mistakes(mistakes))) => {
                let mistakes = mistakes.iter().map(ToString::to_string);
                return refused(mistakes.collect());
            }
            Ok(Err(error)) => return refused(vec![error.to_string()]),
            Err(_) => return refused(vec!["reading the file panicked".to_owned()]),
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        if let (Some(tls), Some(files)) = (&self.tls, &loaded.tls)
            && let Err(error) = tls.reload(files)
        {
            return refused(vec![error.to_string()]);
        }
        let (access, settings) = (self.access.clone(), loaded.access.clone());
        let setting = tokio::task::spawn_blocking(move || access.set(&settings));
        if let Ok(Err(error)) = setting.await {
            return refused(vec![error.to_string()]);
        }
        let needs_restart = differing(&running, &loaded);
        let changes = match &self.devices {
            Some(devices) => devices.apply(&loaded).await,
            None => Default::default(),
        };
        if let Some(desk) = &self.desk {
            desk.set_policy(loaded.commands.clone());
        }
        running.take_devices(loaded);
        let report = ReloadReport {
            applied: true,
            changes,
            needs_restart,
            mistakes: Vec::new(),
        };
        tracing::info!(
            added = report.changes.added.len(),
            changed = report.changes.changed.len(),
            removed = report.changes.removed.len(),
            "configuration reloaded"
        );
        if !report.needs_restart.is_empty() {
            let sections = report.needs_restart.join(", ");
            tracing::warn!(
                sections,
                "changed in the file and not in the node: restart it"
            );
        }
        report
    }
}

fn refused(mistakes: Vec<String>) -> ReloadReport {
    for mistake in &mistakes {
        tracing::error!("{mistake}");
    }
    tracing::error!("the configuration is not reloaded; nothing has changed");
    ReloadReport {
        mistakes,
        ..ReloadReport::default()
    }
}

/// Sections that differ and are read only at the start.
fn differing(running: &Config, loaded: &Config) -> Vec<String> {
    let sections = [
        ("node", running.node == loaded.node),
        ("storage", running.storage == loaded.storage),
        ("mqtt", running.mqtt == loaded.mqtt),
        ("kafka", running.kafka == loaded.kafka),
        ("http", running.http == loaded.http),
        // What is in it is taken up; whether there is one is not.
        ("tls", running.tls.is_some() == loaded.tls.is_some()),
        ("route", running.routes == loaded.routes),
        ("uplink", running.uplink == loaded.uplink),
        ("log", running.log == loaded.log),
    ];
    let differs = sections.into_iter().filter(|(_, same)| !same);
    differs.map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const FILE: &str = "[node]\nname = \"a\"\nrole = \"gateway\"\ndata_dir = \"/d\"\n";

    fn config(more: &str) -> Config {
        Config::parse(Path::new("f"), &format!("{FILE}{more}")).unwrap()
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let changed = config("[http]\nlisten = \"127.0.0.1:9999\"\n[log]\nlevel = \"debug\"\n");
        assert_eq!(differing(&config(""), &changed), ["http", "log"]);
        assert_eq!(differing(&config(""), &config("")), [""; 0]);
    }

    #[tokio::test]
    async fn a_file_with_mistakes_changes_nothing_and_names_them_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gateway.toml");
        std::fs::write(
            &file,
            format!("{FILE}[http]\nlisten = 7\n[log]\nlevle = 1\n"),
        )
        .unwrap();
        let reloader = Reloader::new(
            file.clone(),
            config(""),
            None,
            None,
            None,
            Access::everybody(),
        );
        let report = reloader.reload().await;
        assert!(!report.applied);
        assert_eq!(report.mistakes.len(), 2, "{:?}", report.mistakes);
        std::fs::write(&file, FILE).unwrap();
        assert!(reloader.reload().await.applied);
    }
}
