//! From configuration to the settings of a session.

use std::path::{Path, PathBuf};

use forebay_opcua::security::{Mode, Security};
use forebay_opcua::settings::{Identity, Settings};

use crate::config;
use crate::devices::DeviceContext;

/// The folder of certificates in a data directory.
pub fn pki_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("opcua").join("pki")
}

/// The session's settings on this node.
pub(super) fn settings(wanted: &config::OpcUa, context: &DeviceContext) -> Settings {
    Settings {
        identity: at_home(&wanted.settings.identity, &context.config_dir),
        pki: pki_dir(&context.data_dir),
        ..wanted.settings.clone()
    }
}

/// An identity with the whole names of its files, which the configuration names
/// from its own directory.
pub fn at_home(identity: &Identity, config_dir: &Path) -> Identity {
    match identity {
        Identity::Anonymous => Identity::Anonymous,
        Identity::User {
            name,
            password_file,
        } => Identity::User {
            name: name.clone(),
            password_file: config_dir.join(password_file),
        },
        Identity::Certificate { certificate, key } => Identity::Certificate {
            certificate: config_dir.join(certificate),
            key: config_dir.join(key),
        },
    }
}

/// Whether the configuration wants no protection in so many words.
pub(super) fn asks_for_none(wanted: &config::OpcUa) -> bool {
    matches!(wanted.settings.security, Security::Exactly(_, Mode::None))
}
