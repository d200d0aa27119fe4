//! A bare hub: the broker over a log in one directory.
//!
//! `cargo run -p forebay-broker --example hub -- 127.0.0.1:9092 /tmp/hub`

use std::path::PathBuf;
use std::sync::Arc;

use forebay_broker::{Broker, BrokerConfig, serve};
use forebay_storage::disk::RealDisk;
use forebay_storage::{Config, Storage};
use tokio::net::TcpListener;
use tokio::sync::watch;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .init();
    let mut args = std::env::args().skip(1);
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let data_dir = PathBuf::from(args.next().unwrap_or_else(|| "hub-data".to_owned()));
    let (storage, _) = Storage::open(Config::new(&data_dir), Arc::new(RealDisk::new()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&listen).await?;
        let address = listener.local_addr()?;
        let config = BrokerConfig::new("example", &address.ip().to_string(), address.port());
        let broker = Arc::new(Broker::new(storage.clone(), config));
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(broker, listener, stopped));
        tokio::signal::ctrl_c().await?;
        stop.send_replace(true);
        server.await?
    })?;
    storage.close();
    Ok(())
}
