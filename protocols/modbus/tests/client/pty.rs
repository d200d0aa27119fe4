//! A serial device at the other end of a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use forebay_modbus::endpoint::Endpoint;
use forebay_modbus::frame::rtu;
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// Bytes of a request to read.
const REQUEST_SIZE: usize = 8;

/// A device whose registers hold their own address plus 1,000 times the unit.
pub struct SerialDevice {
    path: PathBuf,
    /// Requests that are left unanswered from here on.
    pub deaf: Arc<AtomicU32>,
}

impl SerialDevice {
    /// Starts a device that answers until the port is closed for good; `None`,
    /// with a word about it, where a terminal's settings cannot be asked for.
    pub fn start() -> Option<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = PathBuf::from(name.into_string().unwrap());
        // Without this the terminal would echo before the client opens it.
        let settings = tcgetattr(&master);
        if matches!(settings, Err(Errno::NOSYS)) {
            // Kernels have had TCGETS2 since 2008; qemu-user 7.2 has not. The test
            // harness hides what a passing test says by `eprintln!`.
            let reason = b"no serial port is tested: this emulator has no ioctl TCGETS2\n";
            std::io::stderr().write_all(reason).unwrap();
            return None;
        }
        let mut settings = settings.unwrap();
        settings.make_raw();
        tcsetattr(&master, OptionalActions::Now, &settings).unwrap();
        // Keeping the other side open keeps reads from failing between opens.
        let other_side = File::options().read(true).write(true).open(&path).unwrap();
        let deaf = Arc::new(AtomicU32::new(0));
        let left = Arc::clone(&deaf);
        thread::spawn(move || {
            let _open = other_side;
            let mut port = File::from(master);
            let mut request = [0; REQUEST_SIZE];
            while port.read_exact(&mut request).is_ok() {
                if left.load(Ordering::SeqCst) > 0 {
                    left.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                if port.write_all(&answer(&request)).is_err() {
                    return;
                }
            }
        });
        Some(Self { path, deaf })
    }

    pub fn endpoint(&self) -> Endpoint {
        let url = format!("rtu://{}?baud=115200&parity=none", self.path.display());
        Endpoint::parse(&url).unwrap()
    }
}

fn answer(request: &[u8; REQUEST_SIZE]) -> Vec<u8> {
    let [unit, function, high, low, _, count, ..] = *request;
    let start = u16::from_be_bytes([high, low]);
    let mut pdu = vec![function, count * 2];
    for address in start..start + u16::from(count) {
        pdu.extend_from_slice(&(u16::from(unit) * 1_000 + address).to_be_bytes());
    }
    let mut frame = Vec::new();
    rtu::encode(unit, &pdu, &mut frame);
    frame
}
