//! Exception codes: the answers of a device that refuses (*App* section 7).

use std::fmt;

/// Why a device refused a request. A refusal is an answer: the link and the
/// device work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exception {
    /// 1: the device does not know the function.
    IllegalFunction,
    /// 2: the device has no such address, or not so many from there.
    IllegalDataAddress,
    /// 3: the value or the count is not allowed.
    IllegalDataValue,
    /// 4: the device failed while it carried the request out.
    ServerDeviceFailure,
    /// 5: the device accepted and needs a long time.
    Acknowledge,
    /// 6: the device is busy with something long.
    ServerDeviceBusy,
    /// 7: the device cannot do that (Modbus Plus; still met).
    NegativeAcknowledge,
    /// 8: the device's memory failed its parity check.
    MemoryParityError,
    /// 10: a gateway has no way to the unit.
    GatewayPathUnavailable,
    /// 11: a gateway got no answer from the unit.
    GatewayTargetFailed,
    /// 9 and everything above 11: assigned by nobody.
    Other(u8),
}

impl Exception {
    /// Every code, as it stands in the byte behind the function.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::IllegalFunction,
            2 => Self::IllegalDataAddress,
            3 => Self::IllegalDataValue,
            4 => Self::ServerDeviceFailure,
            5 => Self::Acknowledge,
            6 => Self::ServerDeviceBusy,
            7 => Self::NegativeAcknowledge,
            8 => Self::MemoryParityError,
            10 => Self::GatewayPathUnavailable,
            11 => Self::GatewayTargetFailed,
            other => Self::Other(other),
        }
    }

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::IllegalFunction => 1,
            Self::IllegalDataAddress => 2,
            Self::IllegalDataValue => 3,
            Self::ServerDeviceFailure => 4,
            Self::Acknowledge => 5,
            Self::ServerDeviceBusy => 6,
            Self::NegativeAcknowledge => 7,
            Self::MemoryParityError => 8,
            Self::GatewayPathUnavailable => 10,
            Self::GatewayTargetFailed => 11,
            Self::Other(code) => code,
        }
    }

    /// The name in the status of a reading.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IllegalFunction => "illegal-function",
            Self::IllegalDataAddress => "illegal-data-address",
            Self::IllegalDataValue => "illegal-data-value",
            Self::ServerDeviceFailure => "server-device-failure",
            Self::Acknowledge => "acknowledge",
            Self::ServerDeviceBusy => "server-device-busy",
            Self::NegativeAcknowledge => "negative-acknowledge",
            Self::MemoryParityError => "memory-parity-error",
            Self::GatewayPathUnavailable => "gateway-path-unavailable",
            Self::GatewayTargetFailed => "gateway-target-failed-to-respond",
            Self::Other(_) => "unknown-exception",
        }
    }

    /// Whether asking again a little later may help.
    #[must_use]
    pub const fn is_busy(self) -> bool {
        matches!(self, Self::Acknowledge | Self::ServerDeviceBusy)
    }

    /// Whether a gateway says that the unit behind it is away.
    #[must_use]
    pub const fn is_unit_away(self) -> bool {
        matches!(
            self,
            Self::GatewayPathUnavailable | Self::GatewayTargetFailed
        )
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exception {} ({})", self.code(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Exception;

    #[test]
    fn every_code_reads_back() {
        for code in 0..=255 {
            assert_eq!(Exception::from_code(code).code(), code);
        }
    }

    #[test]
    fn only_a_busy_device_is_asked_again_and_only_a_gateway_reports_a_unit_away() {
        let busy: Vec<u8> = (0..=255)
            .filter(|code| Exception::from_code(*code).is_busy())
            .collect();
        let away: Vec<u8> = (0..=255)
            .filter(|code| Exception::from_code(*code).is_unit_away())
            .collect();
        assert_eq!((busy, away), (vec![5, 6], vec![10, 11]));
    }
}
