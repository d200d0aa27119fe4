//! InitProducerId: ids that are never given twice.
//!
//! Ids are reserved in blocks. The end of the block is in the state journal
//! before its first id leaves, so a restart skips the rest of a block and
//! repeats nothing. The first block starts at a random place: producers keep
//! their ids across a hub that was set up anew, and must not meet another
//! producer under the same number.

use std::sync::Arc;

use forebay_kafka::messages::{InitProducerIdRequest, InitProducerIdResponse};
use forebay_storage::{AppendError, Ticket, Transaction};

use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::call::Call;
use crate::errors::{KafkaCode, Refusal};
use crate::reply::Reply;

const NEXT_BLOCK_KEY: &[u8] = b"b/producer-id";

/// Ids per block: one small state write per thousand producers.
const BLOCK_IDS: i64 = 1_000;

/// Highest random start, 2^40: leaves room for 2^63 - 2^40 further ids.
const FIRST_ID_BELOW: i64 = 1 << 40;

/// The block in use.
#[derive(Default)]
pub(crate) struct ProducerIds {
    next: i64,
    end: i64,
    ticket: Option<Ticket>,
}

impl Broker {
    pub(crate) fn init_producer_id(
        self: &Arc<Self>,
        call: &Call,
        request: InitProducerIdRequest,
    ) -> Reply {
        let taken = match request.transactional_id {
            Some(_) => Err(Refusal::Transactional),
            None => call
                .check(Operation::Write, Resource::AnyTopic)
                .and_then(|()| Ok(self.take_producer_id()?)),
        };
        match taken {
            Ok((producer_id, ticket)) => {
                let response = InitProducerIdResponse {
                    producer_id,
                    producer_epoch: 0,
                    ..InitProducerIdResponse::default()
                };
                call.after_commit(ticket, &response)
            }
            Err(refusal) => call.ready(&InitProducerIdResponse {
                error_code: refusal.kafka_code(),
                producer_id: -1,
                producer_epoch: -1,
                ..InitProducerIdResponse::default()
            }),
        }
    }

    fn take_producer_id(&self) -> Result<(i64, Ticket), AppendError> {
        let mut ids = self.producer_ids.lock();
        if let Some(ticket) = ids.ticket.filter(|_| ids.next < ids.end) {
            ids.next += 1;
            return Ok((ids.next - 1, ticket));
        }
        let stored = self
            .storage
            .get(NEXT_BLOCK_KEY)
            .and_then(|bytes| bytes.try_into().ok())
            .map(i64::from_be_bytes);
        let start =
            stored.unwrap_or_else(|| fastrand::i64(0..FIRST_ID_BELOW / BLOCK_IDS) * BLOCK_IDS);
        let mut transaction = Transaction::new();
        transaction.put(NEXT_BLOCK_KEY, &(start + BLOCK_IDS).to_be_bytes());
        let ticket = self.storage.commit(transaction)?.ticket;
        *ids = ProducerIds {
            next: start + 1,
            end: start + BLOCK_IDS,
            ticket: Some(ticket),
        };
        Ok((start, ticket))
    }
}
