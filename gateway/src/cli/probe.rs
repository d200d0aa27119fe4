//! `forebay probe`: looks at a machine before it is configured.

pub mod modbus;
pub mod opcua;

use clap::Subcommand;

use super::CommandError;

/// Look at a machine before it is configured.
#[derive(Debug, Subcommand)]
pub enum ProbeCommand {
    /// Show registers in every type and byte order, or look for units
    Modbus(modbus::ModbusArgs),
    /// Show what an OPC UA server offers, and its nodes with types and values
    Opcua(opcua::OpcUaArgs),
}

/// Runs one of them.
///
/// # Errors
/// The machine cannot be reached, or nothing of it answers.
pub async fn execute(command: ProbeCommand) -> Result<bool, CommandError> {
    match command {
        ProbeCommand::Modbus(args) => modbus::execute(args).await,
        ProbeCommand::Opcua(args) => opcua::execute(args).await,
    }
}
