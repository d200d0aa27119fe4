//! The boards that there are packages for.

use std::fmt;
use std::str::FromStr;

/// An architecture, by Debian's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// 64-bit PCs.
    Amd64,
    /// 64-bit ARM: Raspberry Pi 3 and later.
    Arm64,
    /// 32-bit ARMv7 with hard float.
    Armhf,
}

impl Target {
    /// Rust's name, if the program is cross-built.
    #[must_use]
    pub fn cross_triple(self) -> Option<&'static str> {
        match self {
            Self::Amd64 => None,
            Self::Arm64 => Some("aarch64-unknown-linux-gnu"),
            Self::Armhf => Some("armv7-unknown-linux-gnueabihf"),
        }
    }

    /// The cargo profile of what is shipped (Cargo.toml says why).
    #[must_use]
    pub fn profile(self) -> &'static str {
        match self {
            Self::Amd64 => "release",
            Self::Arm64 | Self::Armhf => "board",
        }
    }

    /// The most that the stripped program may have, in bytes: on a board what a
    /// slow link can still be sent, on a PC what would be a mistake of ours.
    #[must_use]
    pub fn size_max(self) -> u64 {
        match self {
            Self::Amd64 => 40_000_000,
            Self::Arm64 | Self::Armhf => 20_000_000,
        }
    }

    /// A program of binutils that understands this target.
    #[must_use]
    pub fn tool(self, name: &str) -> String {
        match self {
            Self::Amd64 => format!("x86_64-linux-gnu-{name}"),
            Self::Arm64 => format!("aarch64-linux-gnu-{name}"),
            Self::Armhf => format!("arm-linux-gnueabihf-{name}"),
        }
    }

    /// What a program for this target is started with on a PC; cross/setup.sh
    /// installs it, and cross/build.sh says the same to cargo.
    #[must_use]
    pub fn emulator(self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => &[],
            Self::Arm64 => &["qemu-aarch64-static"],
            Self::Armhf => &["qemu-arm-static", "-L", "/usr/arm-linux-gnueabihf"],
        }
    }

    /// The machine in the header, as readelf words it.
    #[must_use]
    pub fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "X86-64",
            Self::Arm64 => "AArch64",
            Self::Armhf => "ARM",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Armhf => "armhf",
        })
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Amd64, Self::Arm64, Self::Armhf]
            .into_iter()
            .find(|target| target.to_string() == text)
            .ok_or_else(|| format!("{text}: expected amd64, arm64 or armhf"))
    }
}
