use opcua::types::{DateTime, ExtensionObject, MonitoredItemNotification};

use super::*;
use crate::value::Value;

fn value(number: f64, second: u8) -> DataValue {
    let time = DateTime::ymd_hms(2026, 11, 23, 2, 0, u16::from(second));
    DataValue {
        source_timestamp: Some(time),
        ..DataValue::value_only(number)
    }
}

fn message(number: u32, values: &[(u32, DataValue)]) -> NotificationMessage {
    let items = values
        .iter()
        .map(|(handle, value)| MonitoredItemNotification {
            client_handle: *handle,
            value: value.clone(),
        });
    let change = DataChangeNotification {
        monitored_items: Some(items.collect()),
        diagnostic_infos: None,
    };
    let data = (!values.is_empty()).then(|| vec![ExtensionObject::from_message(change)]);
    NotificationMessage {
        sequence_number: number,
        notification_data: data,
        ..NotificationMessage::default()
    }
}

fn table(number: u64, names: &[&str]) -> Parcel {
    Parcel::Table(Table {
        number,
        items: names
            .iter()
            .map(|&name| (Arc::from(name), Deadband::None))
            .collect(),
        timestamp: Timestamp::Source,
        types: None,
    })
}

struct Flowing {
    flow: Arc<Flow>,
    progress: Arc<Progress>,
    inlet: Inlet,
    parcels: mpsc::Receiver<Parcel>,
    decoder: Decoder,
}

impl Flowing {
    fn new() -> Self {
        let flow = Arc::<Flow>::default();
        let progress = Arc::<Progress>::default();
        let (sender, parcels) = mpsc::channel(PARCELS_MAX);
        Self {
            inlet: Inlet {
                number: 1,
                parcels: sender,
                flow: Arc::clone(&flow),
                progress: Arc::clone(&progress),
            },
            decoder: Decoder::new(Arc::clone(&flow)),
            flow,
            progress,
            parcels,
        }
    }

    fn notify(&mut self, message: NotificationMessage) {
        // The library's map cannot be made here, and is not looked at.
        self.inlet.receive(message);
    }

    fn drain(&mut self) -> Vec<(String, Value, Quality)> {
        let mut found = Vec::new();
        while let Ok(parcel) = self.parcels.try_recv() {
            found.extend(self.decode(parcel));
        }
        found
    }

    fn decode(&mut self, parcel: Parcel) -> Vec<(String, Value, Quality)> {
        match self.decoder.decode(parcel) {
            Some(Event::Samples(samples)) => samples
                .into_iter()
                .map(|sample| (sample.name.to_string(), sample.value, sample.quality))
                .collect(),
            _ => Vec::new(),
        }
    }
}

fn good(name: &str, number: f64) -> (String, Value, Quality) {
    (name.to_owned(), Value::Float(number), Quality::Good)
}

fn uncertain(name: &str, number: f64) -> (String, Value, Quality) {
    (name.to_owned(), Value::Float(number), Quality::Uncertain)
}

#[test]
fn values_go_to_the_item_of_their_handle() {
    let mut flowing = Flowing::new();
    flowing.decode(table(1, &["a", "b"]));
    let values = [
        (2, value(2.0, 1)),
        (1, value(1.0, 1)),
        (9, value(9.0, 1)),
        (0, value(0.0, 1)),
    ];
    flowing.notify(message(1, &values));
    assert_eq!(flowing.drain(), [good("b", 2.0), good("a", 1.0)]);
}

#[test]
fn what_comes_from_a_subscription_of_before_is_not_mixed_up() {
    let mut flowing = Flowing::new();
    flowing.decode(table(1, &["a", "b"]));
    flowing.notify(message(1, &[(1, value(1.0, 1))]));
    flowing.decode(table(2, &["new", "a", "b"]));
    assert_eq!(flowing.drain(), [good("a", 1.0)]);
    flowing.inlet.number = 2;
    // The new one repeats what is known and adds what is not.
    let values = [(1, value(7.0, 1)), (2, value(1.0, 2))];
    flowing.notify(message(1, &values));
    assert_eq!(flowing.drain(), [good("new", 7.0), good("a", 1.0)]);
    flowing.inlet.number = 3;
    flowing.notify(message(1, &[(1, value(8.0, 1))]));
    assert_eq!(flowing.drain(), []);
}

#[test]
fn two_subscriptions_to_one_node_say_nothing_twice() {
    let mut flowing = Flowing::new();
    flowing.decode(table(1, &["a", "gone"]));
    flowing.decode(table(2, &["new", "a"]));
    flowing.notify(message(1, &[(1, value(1.0, 1)), (2, value(5.0, 1))]));
    assert_eq!(flowing.drain(), [good("a", 1.0), good("gone", 5.0)]);
    flowing.inlet.number = 2;
    flowing.notify(message(1, &[(2, value(1.0, 1)), (2, value(2.0, 2))]));
    assert_eq!(flowing.drain(), [good("a", 2.0)]);
    // The one that is being replaced brings the same later.
    flowing.inlet.number = 1;
    flowing.notify(message(2, &[(1, value(2.0, 2)), (1, value(1.0, 1))]));
    assert_eq!(flowing.drain(), []);
    // Only what is subscribed to now is uncertain.
    let never = ("new".to_owned(), Value::Null, Quality::Bad);
    assert_eq!(flowing.decode(Parcel::Away), [never, uncertain("a", 2.0)]);
}

#[test]
fn away_is_said_once_and_ends_with_the_next_value_or_read() {
    let mut flowing = Flowing::new();
    flowing.decode(table(1, &["a", "b", "c"]));
    flowing.notify(message(1, &[(1, value(1.0, 1)), (2, value(2.0, 1))]));
    flowing.drain();
    let never = ("c".to_owned(), Value::Null, Quality::Bad);
    let expected = [uncertain("a", 1.0), uncertain("b", 2.0), never];
    assert_eq!(flowing.decode(Parcel::Away), expected);
    assert_eq!(flowing.decode(Parcel::Away), []);
    // `a` comes with the backlog, `b` did not change and is read.
    flowing.notify(message(2, &[(1, value(1.5, 2))]));
    assert_eq!(flowing.drain(), [good("a", 1.5)]);
    let read = Parcel::Read(1, vec![(0, value(1.5, 2)), (1, value(2.0, 1))]);
    assert_eq!(flowing.decode(read), [good("b", 2.0)]);
    // A read that was overtaken by a notification is old.
    let read = Parcel::Read(1, vec![(0, value(1.0, 1))]);
    assert_eq!(flowing.decode(read), []);
}

#[test]
fn a_full_queue_is_counted_and_asks_for_a_read() {
    let mut flowing = Flowing::new();
    flowing.decode(table(1, &["a"]));
    let count = u32::try_from(PARCELS_MAX).unwrap() + 5;
    for number in 1..=count {
        flowing.notify(message(number, &[(1, value(f64::from(number), 1))]));
    }
    assert_eq!(flowing.flow.dropped(), 5);
    assert_eq!(flowing.drain().len(), PARCELS_MAX);
    assert!(flowing.flow.take_overflow());
    assert!(!flowing.flow.take_overflow());
    assert_eq!(flowing.flow.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn gaps_and_ends_are_noticed_and_keep_alives_are_none() {
    let mut flowing = Flowing::new();
    flowing.notify(message(1, &[(1, value(1.0, 1))]));
    flowing.notify(message(2, &[]));
    flowing.notify(message(2, &[(1, value(1.0, 1))]));
    assert_eq!(flowing.progress.take_missing(), []);
    flowing.notify(message(5, &[(1, value(1.0, 1))]));
    assert_eq!(flowing.progress.take_missing(), [(3, 2)]);
    assert_eq!(flowing.progress.expected(), Some(6));
    let ended = StatusChangeNotification {
        status: StatusCode::BadTimeout,
        ..StatusChangeNotification::default()
    };
    flowing.notify(NotificationMessage {
        sequence_number: 6,
        notification_data: Some(vec![ExtensionObject::from_message(ended)]),
        ..NotificationMessage::default()
    });
    assert_eq!(flowing.progress.ended(), Some(StatusCode::BadTimeout));
}

#[test]
fn a_refused_node_is_bad_once() {
    let mut flowing = Flowing::new();
    flowing.decode(table(1, &["a", "b"]));
    let refusal = || {
        Parcel::Refused(
            1,
            vec![Refusal {
                index: 1,
                status: "BadNodeIdUnknown".into(),
            }],
        )
    };
    let bad = ("b".to_owned(), Value::Null, Quality::Bad);
    assert_eq!(flowing.decode(refusal()), [bad]);
    assert_eq!(flowing.decode(refusal()), []);
}
