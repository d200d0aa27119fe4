use std::sync::Arc;

use bytes::Bytes;
use forebay_mqtt::TopicName;
use tokio::sync::mpsc;

use super::{Allotment, Member, MemberGrant};
use crate::mqtt::dispatch::Delivery;
use crate::mqtt::feeds::FeedId;
use crate::mqtt::message::Message;

const FEED: FeedId = FeedId(3);

const GRANT: MemberGrant = MemberGrant {
    qos: 2,
    identifier: None,
    retain_as_published: false,
};

struct Client {
    member: Arc<Member>,
    queue: mpsc::Receiver<Delivery>,
}

impl Client {
    fn new(id: u64, limit: usize) -> Self {
        let (sender, queue) = mpsc::channel(limit);
        let member = Member::new(id, limit, sender);
        Self { member, queue }
    }

    fn received(&mut self) -> Vec<u64> {
        let mut received = Vec::new();
        while let Ok(delivery) = self.queue.try_recv() {
            self.member.dequeued();
            received.push(delivery.offset);
        }
        received
    }
}

fn message(offset: u64, qos: u8) -> Delivery {
    Delivery {
        feed: FEED,
        offset,
        group: 0,
        message: Arc::new(Message {
            path: TopicName::try_from("a").unwrap(),
            payload: Bytes::new(),
            qos,
            retain: true,
            ..Message::default()
        }),
        qos,
        retain: true,
        identifiers: Vec::new(),
    }
}

fn allotment() -> (Allotment, mpsc::Sender<Delivery>) {
    let (sender, queue) = mpsc::channel(4);
    (Allotment::new(queue), sender)
}

fn with(clients: &[&Client]) -> Allotment {
    let (mut allotment, _) = allotment();
    for client in clients {
        allotment.join(Arc::clone(&client.member), GRANT);
    }
    allotment
}

#[test]
fn members_of_equal_speed_take_turns() {
    let [mut a, mut b] = [Client::new(1, 10), Client::new(2, 100)];
    let mut allotment = with(&[&a, &b]);
    for offset in 0..6 {
        allotment.push(message(offset, 1));
    }
    allotment.hand_out(9);
    assert_eq!(a.received(), [0, 2, 4]);
    assert_eq!(b.received(), [1, 3, 5]);
}

#[test]
fn a_member_without_room_gets_nothing_until_it_has_room_again() {
    let [mut slow, mut fast] = [Client::new(1, 1), Client::new(2, 3)];
    let mut allotment = with(&[&slow, &fast]);
    for offset in 0..6 {
        allotment.push(message(offset, 1));
    }
    allotment.hand_out(9);
    assert_eq!(slow.received(), [0]);
    slow.member.set_inflight(1);
    assert_eq!(fast.received(), [1, 2, 3]);
    fast.member.set_inflight(3);
    allotment.hand_out(9);
    assert!(!allotment.is_empty());
    fast.member.set_inflight(2);
    allotment.finish(FEED, 1);
    allotment.hand_out(9);
    assert_eq!((slow.received(), fast.received()), (vec![], vec![4]));
    fast.member.set_inflight(3);
    slow.member.set_inflight(0);
    allotment.hand_out(9);
    assert_eq!(slow.received(), [5]);
}

/// Section 4.8.2: a QoS 1 message goes to another member when its member
/// leaves; \[MQTT-4.8.2-5\]: one of QoS 2 that was sent does not.
#[test]
fn what_a_leaving_member_has_not_finished_goes_to_the_others_in_order() {
    let [mut a, mut b] = [Client::new(1, 10), Client::new(2, 10)];
    let mut allotment = with(&[&a]);
    for (offset, qos) in [(0, 1), (1, 2), (2, 2), (3, 1)] {
        allotment.push(message(offset, qos));
    }
    allotment.hand_out(9);
    assert_eq!(a.received(), [0, 1, 2, 3]);
    allotment.push(message(4, 1));
    allotment.finish(FEED, 0);
    allotment.depart(1, &[(FEED, 1)]);
    assert!(allotment.is_deserted());
    assert_eq!(allotment.unfinished(), [(FEED, 2), (FEED, 3)]);
    allotment.join(Arc::clone(&b.member), GRANT);
    allotment.hand_out(9);
    assert_eq!(b.received(), [2, 3, 4]);
}

#[test]
fn a_member_that_unsubscribed_finishes_what_it_has_and_gets_no_more() {
    let mut a = Client::new(1, 10);
    let mut allotment = with(&[&a]);
    allotment.push(message(0, 1));
    allotment.hand_out(9);
    allotment.retire(1);
    allotment.push(message(1, 1));
    allotment.hand_out(9);
    assert_eq!(a.received(), [0]);
    assert!(allotment.is_deserted());
    allotment.finish(FEED, 0);
    assert_eq!(allotment.unfinished(), []);
}

#[test]
fn a_message_is_sent_as_the_member_asked() {
    let mut a = Client::new(1, 10);
    let (mut allotment, _) = allotment();
    let grant = MemberGrant {
        qos: 1,
        identifier: Some(5),
        retain_as_published: false,
    };
    allotment.join(Arc::clone(&a.member), grant);
    allotment.push(message(0, 2));
    allotment.hand_out(9);
    let delivery = a.queue.try_recv().unwrap();
    let got = (delivery.group, delivery.qos, delivery.retain);
    assert_eq!(got, (9, 1, false));
    assert_eq!(delivery.identifiers, [5]);
}

#[test]
fn a_taken_message_is_dispensable_when_it_is_finished() {
    let mut a = Client::new(1, 10);
    let mut allotment = with(&[&a]);
    allotment.push(message(0, 2));
    allotment.hand_out(9);
    assert_eq!(a.received(), [0]);
    allotment.take(FEED, 0, b"key".to_vec());
    assert_eq!(allotment.dispensable(), []);
    allotment.finish(FEED, 0);
    let dispensable = allotment.dispensable();
    assert_eq!(dispensable, [((FEED, 0), b"key".to_vec())]);
    allotment.dispensed(&dispensable);
    assert_eq!(allotment.taken(), []);
}

#[test]
fn qos_0_is_not_kept_for_a_group_without_members() {
    let mut a = Client::new(1, 10);
    let mut allotment = with(&[&a]);
    allotment.push(message(0, 0));
    allotment.push(message(1, 1));
    allotment.hand_out(9);
    assert_eq!(a.received(), [0, 1]);
    allotment.depart(1, &[]);
    assert_eq!(allotment.unfinished(), [(FEED, 1)]);
}
