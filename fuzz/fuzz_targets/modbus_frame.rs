//! Any bytes are a frame, an error or too few, over TCP and on a serial line;
//! what is a frame is no longer than its input and reads the same when it
//! arrives in pieces.
#![no_main]

use forebay_modbus::address::Table;
use forebay_modbus::frame::{rtu, tcp};
use forebay_modbus::request::{Answer, Request};
use libfuzzer_sys::fuzz_target;

fn requests(count: u16) -> [Request; 6] {
    let read = |table| Request::Read {
        table,
        start: 7,
        count,
    };
    [
        read(Table::Holding),
        read(Table::Input),
        read(Table::Coil),
        read(Table::Discrete),
        Request::WriteRegister {
            address: 7,
            value: count,
        },
        Request::MaskWrite {
            address: 7,
            and: count,
            or: 1,
        },
    ]
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let count = u16::from(first % 125) + 1;
    if let Ok(Some(frame)) = tcp::decode(data) {
        assert!(frame.size <= data.len() && frame.size <= tcp::FRAME_SIZE_MAX);
        for request in requests(count) {
            if let Ok(Answer::Data(read)) = request.answer(frame.pdu) {
                assert_eq!(read.len() + 2, request.answer_size());
            }
        }
    }
    for request in requests(count) {
        let whole = rtu::decode(data, 1, &request);
        if let Ok(Some(frame)) = &whole {
            assert!(frame.size <= data.len() && frame.size <= rtu::FRAME_SIZE_MAX);
            // Not a byte earlier.
            assert_eq!(rtu::decode(&data[..frame.size - 1], 1, &request), Ok(None));
        }
        if whole.is_err() {
            // What is wrong stays wrong, however much follows.
            let longer = [data, &[0; 8]].concat();
            assert!(rtu::decode(&longer, 1, &request).is_err());
        }
    }
});
