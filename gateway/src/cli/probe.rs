//! `forebay probe`: looks at a machine before it is configured.

pub mod modbus;

use clap::Subcommand;

use super::CommandError;

/// Look at a machine before it is configured.
#[derive(Debug, Subcommand)]
pub enum ProbeCommand {
    /// Show registers in every type and byte order, or look for units
    Modbus(modbus::ModbusArgs),
}

/// Runs one of them.
///
/// # Errors
/// The machine cannot be reached, or nothing of it answers.
pub async fn execute(command: ProbeCommand) -> Result<bool, CommandError> {
    match command {
        ProbeCommand::Modbus(args) => modbus::execute(args).await,
    }
}
