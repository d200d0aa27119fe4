//! Scripts for the session machine: what goes in, and exactly what comes out.

mod aliases;
mod closing;
mod harness;
mod inbound;
mod opening;
mod outbound;
mod statements;
