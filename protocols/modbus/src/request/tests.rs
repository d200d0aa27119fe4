use super::{Answer, Misfit, Request, RequestError};
use crate::address::Table;
use crate::exception::Exception;

fn read(table: Table, start: u16, count: u16) -> Request {
    Request::Read {
        table,
        start,
        count,
    }
}

/// An example: section, request, its bytes, the answer's bytes, what it means.
type Example = (&'static str, Request, Vec<u8>, Vec<u8>, Answer<'static>);

/// The examples of the specification, V1.1b3.
fn examples() -> Vec<Example> {
    vec![
        (
            "6.1",
            read(Table::Coil, 0x13, 0x13),
            vec![0x01, 0x00, 0x13, 0x00, 0x13],
            vec![0x01, 0x03, 0xCD, 0x6B, 0x05],
            Answer::Data(&[0xCD, 0x6B, 0x05]),
        ),
        (
            "6.2",
            read(Table::Discrete, 0xC4, 0x16),
            vec![0x02, 0x00, 0xC4, 0x00, 0x16],
            vec![0x02, 0x03, 0xAC, 0xDB, 0x35],
            Answer::Data(&[0xAC, 0xDB, 0x35]),
        ),
        (
            "6.3",
            read(Table::Holding, 0x6B, 3),
            vec![0x03, 0x00, 0x6B, 0x00, 0x03],
            vec![0x03, 0x06, 0x02, 0x2B, 0x00, 0x00, 0x00, 0x64],
            Answer::Data(&[0x02, 0x2B, 0x00, 0x00, 0x00, 0x64]),
        ),
        (
            "6.4",
            read(Table::Input, 8, 1),
            vec![0x04, 0x00, 0x08, 0x00, 0x01],
            vec![0x04, 0x02, 0x00, 0x0A],
            Answer::Data(&[0x00, 0x0A]),
        ),
        (
            "6.5",
            Request::WriteCoil {
                address: 0xAC,
                on: true,
            },
            vec![0x05, 0x00, 0xAC, 0xFF, 0x00],
            vec![0x05, 0x00, 0xAC, 0xFF, 0x00],
            Answer::Written,
        ),
        (
            "6.6",
            Request::WriteRegister {
                address: 1,
                value: 3,
            },
            vec![0x06, 0x00, 0x01, 0x00, 0x03],
            vec![0x06, 0x00, 0x01, 0x00, 0x03],
            Answer::Written,
        ),
        (
            "6.11",
            Request::WriteCoils {
                address: 0x13,
                values: [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]
                    .into_iter()
                    .map(|bit| bit == 1)
                    .collect(),
            },
            vec![0x0F, 0x00, 0x13, 0x00, 0x0A, 0x02, 0xCD, 0x01],
            vec![0x0F, 0x00, 0x13, 0x00, 0x0A],
            Answer::Written,
        ),
        (
            "6.12",
            Request::WriteRegisters {
                address: 1,
                values: vec![0x000A, 0x0102],
            },
            vec![0x10, 0x00, 0x01, 0x00, 0x02, 0x04, 0x00, 0x0A, 0x01, 0x02],
            vec![0x10, 0x00, 0x01, 0x00, 0x02],
            Answer::Written,
        ),
        (
            "6.16",
            Request::MaskWrite {
                address: 4,
                and: 0xF2,
                or: 0x25,
            },
            vec![0x16, 0x00, 0x04, 0x00, 0xF2, 0x00, 0x25],
            vec![0x16, 0x00, 0x04, 0x00, 0xF2, 0x00, 0x25],
            Answer::Written,
        ),
    ]
}

#[test]
fn the_examples_of_the_specification() {
    for (section, request, bytes, answer, meaning) in examples() {
        let mut out = Vec::new();
        request.encode(&mut out).unwrap();
        assert_eq!(out, bytes, "{section}");
        assert_eq!(request.answer(&answer), Ok(meaning), "{section}");
    }
}

#[test]
fn an_answer_that_is_cut_anywhere_or_too_long_is_no_answer() {
    for (section, request, _, mut answer, _) in examples() {
        for end in 0..answer.len() {
            assert!(request.answer(&answer[..end]).is_err(), "{section} {end}");
        }
        answer.push(0);
        assert!(request.answer(&answer).is_err(), "{section}");
    }
}

#[test]
fn an_answer_to_another_request_is_no_answer() {
    let all = examples();
    for (section, request, ..) in &all {
        for (other, _, _, answer, _) in &all {
            if section != other {
                assert!(request.answer(answer).is_err(), "{other} for {section}");
            }
        }
    }
    let two = read(Table::Holding, 0, 2);
    assert_eq!(
        two.answer(&[3, 2, 0, 1]),
        Err(Misfit::Length {
            got: 4,
            expected: 6
        })
    );
    assert_eq!(
        two.answer(&[4, 4, 0, 1, 0, 2]),
        Err(Misfit::Function {
            got: 4,
            expected: 3
        })
    );
    let write = Request::WriteRegister {
        address: 1,
        value: 3,
    };
    assert_eq!(write.answer(&[6, 0, 2, 0, 3]), Err(Misfit::Echo));
    assert_eq!(write.answer(&[6, 0, 1, 0, 4]), Err(Misfit::Echo));
}

#[test]
fn a_refusal_is_an_answer() {
    for (section, request, ..) in examples() {
        for code in 1..=11 {
            let pdu = [request.function() | 0x80, code];
            assert_eq!(
                request.answer(&pdu),
                Ok(Answer::Refused(Exception::from_code(code))),
                "{section}"
            );
        }
    }
}

#[test]
fn what_no_device_can_answer_is_not_sent() {
    let mut out = Vec::new();
    let count = |count, max| Err(RequestError::Count { count, max });
    assert_eq!(
        read(Table::Holding, 0, 126).encode(&mut out),
        count(126, 125)
    );
    assert_eq!(read(Table::Input, 0, 0).encode(&mut out), count(0, 125));
    assert_eq!(
        read(Table::Coil, 0, 2_001).encode(&mut out),
        count(2_001, 2_000)
    );
    assert_eq!(
        Request::WriteRegisters {
            address: 0,
            values: vec![0; 124]
        }
        .encode(&mut out),
        count(124, 123)
    );
    assert_eq!(
        read(Table::Holding, 65_535, 2).encode(&mut out),
        Err(RequestError::PastEnd {
            start: 65_535,
            count: 2
        })
    );
    assert_eq!(out, []);
    assert_eq!(read(Table::Holding, 65_535, 1).encode(&mut out), Ok(()));
    assert_eq!(read(Table::Coil, 63_536, 2_000).encode(&mut out), Ok(()));
}
