//! Messages that are fed in any pieces are judged as they are as a whole, and a request's head that passes is one for httparse, too.

#![no_main]

use holdline_core::wire::guard::{Answers, FIELDS_MAX, Fed, Refused, Requests};
use holdline_fuzz::Input;
use libfuzzer_sys::fuzz_target;

const HEAD_MAX: usize = 1 << 10;

/// Where messages ended, and why no more was read.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    at: usize,
    ends: Vec<usize>,
    refused: Option<Refused>,
}

impl Verdict {
    fn feed(&mut self, guard: &mut Guard, mut input: &[u8]) {
        while self.refused.is_none() && !input.is_empty() {
            match guard.feed(input) {
                Ok(Fed::End(n)) => {
                    assert!(n > 0 && n <= input.len());
                    self.at += n;
                    self.ends.push(self.at);
                    input = &input[n..];
                }
                Ok(_) => {
                    self.at += input.len();
                    return;
                }
                // How much of the piece was good is nobody's business.
                Err(refused) => self.refused = Some(refused),
            }
        }
    }

    fn told(&self) -> (&[usize], Option<Refused>) {
        (&self.ends, self.refused)
    }
}

enum Guard {
    Requests(Requests),
    Answers(Answers),
}

impl Guard {
    fn new(answers: bool) -> Self {
        if !answers {
            return Guard::Requests(Requests::new(HEAD_MAX));
        }
        let mut guard = Answers::new(HEAD_MAX);
        guard.ask(false);
        Guard::Answers(guard)
    }

    fn feed(&mut self, input: &[u8]) -> Result<Fed, Refused> {
        match self {
            Guard::Requests(guard) => guard.feed(input),
            Guard::Answers(guard) => {
                let fed = guard.feed(input);
                if matches!(fed, Ok(Fed::End(_))) {
                    guard.ask(false);
                }
                fed
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    let (mut whole, mut pieces) = (Verdict::default(), Verdict::default());
    whole.feed(&mut Guard::new(input.flag), input.bytes);
    let mut guard = Guard::new(input.flag);
    input.in_pieces(|piece| pieces.feed(&mut guard, piece));
    assert_eq!(whole.told(), pieces.told());
    if !input.flag && matches!(Requests::new(HEAD_MAX).feed(input.bytes), Ok(Fed::Body | Fed::End(_))) {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX as usize];
        // httparse asks targets to be UTF-8, which is the parser's matter and no ambiguity.
        match httparse::Request::new(&mut fields).parse(input.bytes) {
            Ok(status) => assert!(status.is_complete()),
            Err(error) => assert_eq!(error, httparse::Error::Token),
        }
    }
});
