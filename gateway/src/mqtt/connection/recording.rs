//! QoS 2 deliveries in the state.

use forebay_mqtt::packet::Publish;
use forebay_mqtt::session::{Cursor, Token};
use forebay_mqtt::{Effect, PacketId, Qos};
use forebay_storage::{AppendError, Ticket, Transaction};

use super::Connection;
use super::sharing::group_of;
use crate::mqtt::sessions::record::{self, OutgoingRecord};
use crate::mqtt::stream::ByteStream;

impl<S: ByteStream> Connection<S> {
    /// Writes down the packet id of a new QoS 2 delivery, where the session or
    /// the group that it comes from outlives a crash.
    pub(super) fn record_outgoing(
        &mut self,
        publish: &Publish,
    ) -> Option<Result<Ticket, AppendError>> {
        if publish.qos != Qos::ExactlyOnce || publish.dup {
            return None;
        }
        let opened = self.opened.as_ref()?;
        let packet_id = publish.packet_id?;
        let inflight = self.machine.inflight();
        let cursor = inflight.iter().find(|i| i.packet_id == packet_id)?.cursor;
        let place = self.place(cursor)?;
        let record = OutgoingRecord {
            place,
            received: false,
            shared: group_of(cursor) != 0,
        };
        let taken = self.taken_key(cursor);
        if taken.is_none() && !opened.is_persistent() {
            return None;
        }
        let mut transaction = Transaction::new();
        if opened.is_persistent() {
            let key = record::outgoing_key(opened.claim.client(), packet_id.value());
            transaction.put(&key, &record::encode(&record));
        }
        if let Some(taken) = taken {
            transaction.put(&taken, b"");
        }
        let is_persistent = opened.is_persistent();
        let committed = self.node.storage.commit(transaction);
        if committed.is_ok() && is_persistent {
            self.outbound.is_now_recorded(packet_id.value());
        }
        Some(committed.map(|committed| committed.ticket))
    }

    /// The client has a QoS 2 message. False when the storage pushes back.
    pub(super) fn record_received(
        &mut self,
        token: Token,
        cursor: Cursor,
        packet_id: PacketId,
    ) -> bool {
        let place = self.place(cursor);
        let persistent = self.opened.as_ref().filter(|opened| opened.is_persistent());
        let (Some(opened), Some(place)) = (persistent, place) else {
            self.acknowledge(token);
            return true;
        };
        let record = OutgoingRecord {
            place,
            received: true,
            shared: group_of(cursor) != 0,
        };
        let key = record::outgoing_key(opened.claim.client(), packet_id.value());
        let mut transaction = Transaction::new();
        transaction.put(&key, &record::encode(&record));
        let again = Effect::RecordQos2Received {
            token,
            cursor,
            packet_id,
        };
        self.commit_for(transaction, token, again)
    }
}
