//! The driver's end of the queue to the samples.

use tokio::sync::mpsc;

use super::Notice;
use super::receiving::Parcel;

/// The way to the samples.
pub(super) struct Outlet(mpsc::Sender<Parcel>);

impl Outlet {
    pub(super) fn new(parcels: mpsc::Sender<Parcel>) -> Self {
        Self(parcels)
    }

    /// Another end, for a step.
    pub(super) fn sender(&self) -> mpsc::Sender<Parcel> {
        self.0.clone()
    }

    /// Waits while the queue is full.
    pub(super) async fn send(&self, parcel: Parcel) {
        // The receiver ends with the client, and the driver with it.
        let _ = self.0.send(parcel).await;
    }

    pub(super) async fn notice(&self, notice: Notice) {
        self.send(Parcel::Notice(notice)).await;
    }
}
