//! A card, and a board in QEMU that it is plugged into.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::failure::{During, Failure, Outcome};

/// Where the first partition begins in the image (cross/image.sh).
const FIRMWARE_AT: &str = "@@4M";

/// Lines of the console that a failure shows.
const CONSOLE_LINES: usize = 40;

/// A copy of the image, with kernel and initial RAM disk taken out of it: QEMU
/// has no firmware of a Raspberry Pi that would read them.
#[derive(Debug)]
pub struct Card {
    image: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
    directory: PathBuf,
}

impl Card {
    /// Copies `image` into `directory`, onto a card of `size` bytes.
    ///
    /// # Errors
    /// The first partition is not as it should be.
    pub fn of(image: &Path, directory: &Path, size: u64) -> Outcome<Self> {
        let card = Self {
            image: directory.join("card.img"),
            kernel: directory.join("vmlinuz"),
            initrd: directory.join("initrd.img"),
            directory: directory.to_path_buf(),
        };
        let mut copy = Command::new("cp");
        run(copy.arg("--sparse=always").args([image, &card.image]))?;
        let file = File::options().write(true).open(&card.image);
        let file = file.during(card.image.display())?;
        file.set_len(size).during(card.image.display())?;
        for (pattern, file) in [
            ("::vmlinuz-*", &card.kernel),
            ("::initrd.img-*", &card.initrd),
        ] {
            let mut copy = Command::new("mcopy");
            run(copy.args(["-n", "-i", &card.firmware(), pattern]).arg(file))?;
        }
        Ok(card)
    }

    /// Puts a configuration on the first partition, as a person would.
    ///
    /// # Errors
    /// The partition is full or damaged.
    pub fn configure(&self, name: &str) -> Outcome {
        let text = format!(
            "[node]\nname = \"{name}\"\nrole = \"gateway\"\ndata_dir = \"/var/lib/forebay\"\n\
             [storage]\nretention = {{ keep_free = \"16MiB\" }}\n\
             [mqtt]\nlisten = \"0.0.0.0:1883\"\n\
             [kafka]\nlisten = \"0.0.0.0:9092\"\nadvertise = \"127.0.0.1:9092\"\n\
             [http]\nlisten = \"0.0.0.0:8080\"\n[access]\nanonymous = true\n"
        );
        let file = self.directory.join("forebay.toml");
        fs::write(&file, text).during(file.display())?;
        let mut copy = Command::new("mcopy");
        let firmware = self.firmware();
        run(copy
            .args(["-o", "-i", &firmware])
            .arg(file)
            .arg("::forebay/forebay.toml"))
    }

    fn firmware(&self) -> String {
        format!("{}{FIRMWARE_AT}", self.image.display())
    }
}

/// A running board. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Board {
    /// MQTT, from outside.
    pub mqtt: SocketAddr,
    /// Kafka, from outside.
    pub kafka: SocketAddr,
    /// HTTP, from outside.
    pub http: SocketAddr,
    qemu: Child,
    console: PathBuf,
}

impl Board {
    /// Switches a board on.
    ///
    /// # Errors
    /// QEMU is missing, or there are no free ports.
    pub fn start(card: &Card) -> Outcome<Self> {
        let [mqtt, kafka, http] = [free_port()?, free_port()?, free_port()?];
        let forward =
            |outside: SocketAddr, inside: u16| format!(",hostfwd=tcp:{outside}-:{inside}");
        let network = format!(
            "user,id=net,restrict=on{}{}{}",
            forward(mqtt, 1883),
            forward(kafka, 9092),
            forward(http, 8080)
        );
        let console = card.directory.join("console.log");
        let drive = format!("file={},if=none,id=card,format=raw", card.image.display());
        let qemu = Command::new("qemu-system-aarch64")
            // The processor of a Raspberry Pi 3 on a board that QEMU emulates well.
            .args([
                "-M",
                "virt",
                "-cpu",
                "cortex-a53",
                "-smp",
                "2",
                "-m",
                "1024",
            ])
            .args([
                "-accel",
                "tcg,thread=multi",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args([
                "-append",
                "root=LABEL=ROOT ro console=ttyAMA0 net.ifnames=0",
            ])
            .arg("-kernel")
            .arg(&card.kernel)
            .arg("-initrd")
            .arg(&card.initrd)
            .args(["-drive", &drive, "-device", "virtio-blk-pci,drive=card"])
            .args(["-netdev", &network])
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-device", "virtio-rng-pci", "-monitor", "none"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .stdin(Stdio::null())
            .spawn()
            .during("qemu-system-aarch64 (qemu-system-arm)")?;
        Ok(Self {
            mqtt,
            kafka,
            http,
            qemu,
            console,
        })
    }

    /// The last lines of the console.
    #[must_use]
    pub fn console(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// A port that was free a moment ago; QEMU takes no port 0.
fn free_port() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("free port")?;
    listener.local_addr().during("free port")
}

fn run(command: &mut Command) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().during(&name)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{name}: {}", said.trim())))
}
