//! One file per API family, each an `impl Broker` with its request handlers.

mod acls;
mod api_versions;
mod append;
mod cluster;
mod committed_offsets;
mod configs;
pub(crate) mod fetch;
mod group_admin;
pub(crate) mod groups;
mod list_offsets;
mod log_dirs;
mod metadata;
pub(crate) mod overview;
mod produce;
pub(crate) mod producer_id;
mod records;
mod sasl;
mod topics;
