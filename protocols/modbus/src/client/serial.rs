//! A serial port, by termios and the readiness of its descriptor.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::OFlags;
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, QueueSelector, Termios, ioctl_tiocexcl, tcflush,
    tcgetattr, tcsetattr,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::endpoint::{Parity, SerialPort};

/// An open port.
pub(super) struct Serial {
    port: AsyncFd<File>,
}

impl Serial {
    /// Opens the port for this process alone, sets it up and discards what
    /// the kernel has read from it so far.
    pub(super) fn open(port: &SerialPort) -> io::Result<Self> {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&port.path)?;
        let mut settings = tcgetattr(&file)?;
        set_up(&mut settings, port)?;
        tcsetattr(&file, OptionalActions::Now, &settings)?;
        ioctl_tiocexcl(&file)?;
        tcflush(&file, QueueSelector::IOFlush)?;
        #[expect(
            deprecated,
            reason = "the successor is unsafe because not every type keeps its descriptor; a File does"
        )]
        let port = AsyncFd::new(file)?;
        Ok(Self { port })
    }
}

/// Raw bytes with the parity and stop bits of the port.
fn set_up(settings: &mut Termios, port: &SerialPort) -> io::Result<()> {
    settings.make_raw();
    settings.set_speed(port.baud)?;
    let control = &mut settings.control_modes;
    *control |= ControlModes::CREAD | ControlModes::CLOCAL;
    control.remove(ControlModes::CSIZE | ControlModes::CRTSCTS);
    *control |= if port.data_bits == 7 {
        ControlModes::CS7
    } else {
        ControlModes::CS8
    };
    control.set(ControlModes::CSTOPB, port.stop_bits == 2);
    control.set(ControlModes::PARENB, port.parity != Parity::None);
    control.set(ControlModes::PARODD, port.parity == Parity::Odd);
    // A character with a wrong parity is dropped, and the CRC notices.
    let input = &mut settings.input_modes;
    input.set(InputModes::INPCK, port.parity != Parity::None);
    input.set(InputModes::IGNPAR, port.parity != Parity::None);
    Ok(())
}

impl AsyncRead for Serial {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.port.poll_read_ready(context))?;
            let read = guard.try_io(|port| port.get_ref().read(buffer.initialize_unfilled()));
            if let Ok(read) = read {
                buffer.advance(read?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Serial {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.port.poll_write_ready(context))?;
            if let Ok(written) = guard.try_io(|port| port.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
