use proptest::prelude::*;

use super::super::chunk::ChunkError;
use super::*;

const HEAD_MAX: usize = 400;

/// What became of `input`, fed in pieces that end at `cuts`: the ends of its messages, then why no more was read or how far it is.
type Verdict = (Vec<usize>, Result<Fed, Refused>);

fn follow(input: &[u8], cuts: &[usize], mut feed: impl FnMut(&[u8]) -> Result<Fed, Refused>) -> Verdict {
    let mut ends = Vec::new();
    let (mut at, mut state) = (0, Ok(Fed::Head));
    for &cut in cuts.iter().chain([&input.len()]) {
        while at < cut {
            state = feed(&input[at..cut]);
            match state {
                Ok(Fed::End(n)) => {
                    at += n;
                    ends.push(at);
                }
                Ok(_) => at = cut,
                Err(_) => return (ends, state),
            }
        }
    }
    // Where the last `End` was counted from depends on the cuts.
    (ends, state.map(|s| if matches!(s, Fed::End(_)) { Fed::End(0) } else { s }))
}

fn requests(input: &[u8], cuts: &[usize]) -> Verdict {
    let mut guard = Requests::new(HEAD_MAX);
    follow(input, cuts, |part| guard.feed(part))
}

fn request(input: &str) -> Verdict {
    requests(input.as_bytes(), &[])
}

/// The answers to GETs, each asked when the one before it ended.
fn answers(input: &[u8], cuts: &[usize]) -> Verdict {
    let mut guard = Answers::new(HEAD_MAX);
    guard.ask(false);
    follow(input, cuts, |part| {
        let fed = guard.feed(part);
        if matches!(fed, Ok(Fed::End(_))) {
            guard.ask(false);
        }
        fed
    })
}

fn answer(input: &str) -> Verdict {
    answers(input.as_bytes(), &[])
}

#[test]
fn a_connection_pays_for_the_state_only() {
    assert_eq!((size_of::<Requests>(), size_of::<Answers>()), (104, 112));
}

#[test]
fn messages_are_followed_one_by_one() {
    let get = "GET /a?b=%20 HTTP/1.1\r\nHost: h\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: h\r\ncontent-LENGTH: \t005 \r\n\r\nhello";
    let coded = "PUT / HTTP/1.1\r\nTransfer-Encoding:CHUNKED\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
    let old = "GET / HTTP/1.0\r\n\r\n";
    let all = [get, post, "\r\n", coded, old].concat();
    let ends = [get, post, &["\r\n", coded].concat(), old].iter().fold(vec![0], |mut ends, m| {
        ends.push(ends.last().unwrap() + m.len());
        ends
    });
    assert_eq!(request(&all), (ends[1..].to_vec(), Ok(Fed::End(0))));
    assert_eq!(request(&post[..post.len() - 1]), (vec![], Ok(Fed::Body)));
    assert_eq!(request(&get[..get.len() - 1]), (vec![], Ok(Fed::Head)));
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let cases: &[(&str, Refused)] = &[
        ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", Refused::Ambiguous),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", Refused::Ambiguous),
        ("Content-Length: 4\r\nContent-Length: 4\r\n", Refused::Length),
        ("Content-Length: 4, 4\r\n", Refused::Length),
        ("Content-Length: 4 4\r\n", Refused::Length),
        ("Content-Length:\r\n", Refused::Length),
        ("Content-Length: \t\r\n", Refused::Length),
        ("Content-Length: +4\r\n", Refused::Length),
        ("Content-Length: -4\r\n", Refused::Length),
        ("Content-Length: 0x4\r\n", Refused::Length),
        ("Content-Length: 18446744073709551616\r\n", Refused::Length),
        ("Transfer-Encoding: chunked, chunked\r\n", Refused::Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Refused::Coding),
        ("Transfer-Encoding: chunked, identity\r\n", Refused::Coding),
        ("Transfer-Encoding: gzip, chunked\r\n", Refused::Coding),
        ("Transfer-Encoding: xchunked\r\n", Refused::Coding),
        ("Transfer-Encoding: chunke\r\n", Refused::Coding),
        ("Transfer-Encoding: \"chunked\"\r\n", Refused::Coding),
        ("Transfer-Encoding:\x0bchunked\r\n", Refused::Coding),
        ("Transfer-Encoding:\r\n", Refused::Coding),
        ("Transfer-Encoding : chunked\r\n", Refused::Name),
        ("Transfer-Encoding\r\n", Refused::Name),
        (" Transfer-Encoding: chunked\r\n", Refused::Folded),
        ("A: b\r\n\tc\r\n", Refused::Folded),
        (": b\r\n", Refused::Name),
        ("A\0: b\r\n", Refused::Name),
        ("A(: b\r\n", Refused::Name),
        ("\u{e9}: b\r\n", Refused::Name),
        ("A: b\0\r\n", Refused::Control),
        ("A: \x7f\r\n", Refused::Control),
        ("A: b\n", Refused::LineEnd),
        ("A: b\rc\r\n", Refused::LineEnd),
        ("A\n", Refused::LineEnd),
        ("\n", Refused::LineEnd),
        ("\rA: b\r\n", Refused::LineEnd),
    ];
    for (fields, refused) in cases {
        let verdict = request(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        assert_eq!(verdict, (vec![], Err(*refused)), "{fields:?}");
        let verdict = answer(&format!("HTTP/1.1 200 OK\r\nServer: h\r\n{fields}\r\n"));
        assert_eq!(verdict, (vec![], Err(*refused)), "{fields:?}");
    }
    assert_eq!(request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").1, Err(Refused::Coding));
    assert_eq!(answer("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").1, Err(Refused::Coding));
}

#[test]
fn a_request_line_has_one_form() {
    for (line, refused) in [
        ("GET / HTTP/1.1\n", Refused::LineEnd),
        ("GET / HTTP/1.1\r\r", Refused::LineEnd),
        ("\nGET", Refused::LineEnd),
        ("\r\r", Refused::LineEnd),
        ("\r\n\r", Refused::Line),
        (" GET", Refused::Line),
        ("GET  /", Refused::Line),
        ("GET / HTTP/1.1 \r\n", Refused::Line),
        ("GET /\r\n", Refused::Line),
        ("GET /\0", Refused::Control),
        ("GET /\t", Refused::Control),
        ("GET / HTTP/1.2", Refused::Line),
        ("PRI * HTTP/2.0\r\n", Refused::Line),
        ("GET / http/1.1", Refused::Line),
        ("G@T", Refused::Line),
        ("\x16\x03\x01", Refused::Line),
    ] {
        assert_eq!(request(line).1, Err(refused), "{line:?}");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_and_fields() {
    let fill = |len: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(len - 23));
    assert_eq!(request(&fill(HEAD_MAX)), (vec![HEAD_MAX], Ok(Fed::End(0))));
    assert_eq!(request(&fill(HEAD_MAX + 1)).1, Err(Refused::TooLarge));
    let mut guard = Requests::new(1 << 20);
    let fields = |count: u16| format!("GET / HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(count.into()));
    assert!(matches!(guard.feed(fields(FIELDS_MAX).as_bytes()), Ok(Fed::End(_))));
    assert_eq!(guard.feed(fields(FIELDS_MAX + 1).as_bytes()), Err(Refused::TooLarge));
    assert_eq!((Refused::TooLarge.status(), Refused::Line.status()), (431, 400));
}

#[test]
fn a_chunked_body_is_followed_to_the_byte() {
    let coded = |body: &str| request(&format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).1;
    for (body, error) in [
        ("-1\r\n", ChunkError::Size),
        (" 1\r\n", ChunkError::Size),
        ("fffffffffffffffff\r\n", ChunkError::Size),
        ("1\na", ChunkError::Size),
        ("1;a\n", ChunkError::Line),
        ("1;\0\r\n", ChunkError::Line),
        ("1\r\nab", ChunkError::Line),
        ("0\r\nA : b\r\n", ChunkError::Trailer),
        ("0\r\nA: b\n", ChunkError::Line),
        ("0\r\n\n", ChunkError::Trailer),
    ] {
        assert_eq!(coded(body), Err(Refused::Chunk(error)), "{body:?}");
    }
    assert_eq!(coded("ffffffffffffffff\r\nabc"), Ok(Fed::Body));
    // None of them is long.
    assert_eq!(coded(&format!("1;{}\r\na\r\n", "x".repeat(99)).repeat(40)), Ok(Fed::Body));
    let much = format!("1;{}\r\na\r\n", "x".repeat(99)).repeat(41);
    assert_eq!(coded(&much), Err(Refused::Chunk(ChunkError::TooLarge)));
}

#[test]
fn an_answer_belongs_to_its_request() {
    let mut guard = Answers::new(HEAD_MAX);
    assert_eq!(guard.feed(b"H"), Err(Refused::Unasked));
    guard.ask(true);
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(guard.feed(&[&head[..], b"hello"].concat()), Ok(Fed::End(head.len())));
    assert!(guard.is_idle());
    assert_eq!(guard.feed(b"hello"), Err(Refused::Unasked));
    for (bytes, end) in [
        ("HTTP/1.1 204 No\r\n\r\nx", 19),
        ("HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\nx", 40),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\nx", 35),
        ("HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy", 61),
    ] {
        guard.ask(false);
        assert_eq!(guard.feed(bytes.as_bytes()), Ok(Fed::End(end)), "{bytes}");
    }
    assert_eq!(answer("HTTP/1.0 200 \r\n\r\nall of it"), (vec![], Ok(Fed::Body)));
}

#[test]
fn an_answer_that_is_none_is_refused() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n";
    assert_eq!(answer(&interim.repeat(8)).1, Ok(Fed::Head));
    assert_eq!(answer(&interim.repeat(9)).1, Err(Refused::Interims));
    for (bytes, refused) in [
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Refused::Switch),
        ("\r\nHTTP/1.1 200 OK", Refused::Line),
        ("SSH-2.0", Refused::Line),
        ("HTTP/1.1 20 OK", Refused::Line),
        ("HTTP/1.1 099 OK", Refused::Line),
        ("HTTP/1.1 600 OK", Refused::Line),
        ("HTTP/1.1 2000", Refused::Line),
        ("HTTP/1.1 200 O\0", Refused::Control),
        ("HTTP/1.1 200 OK\n", Refused::LineEnd),
        ("HTTP/1.1 200 OK\r\r", Refused::LineEnd),
        ("HTTP/2.0 200", Refused::Line),
    ] {
        assert_eq!(answer(bytes).1, Err(refused), "{bytes:?}");
    }
}

/// Text that is nearly HTTP: words of the grammar, and of its enemies, in any order.
fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100\r\n",
        "HTTP/1.0 304 x\r\n",
        "GET",
        " ",
        "/",
        "HTTP/1.",
        "1",
        "0",
        "\r\n",
        "\r",
        "\n",
        "\r\n\r\n",
        "Host: h\r\n",
        "Content-Length",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        ": ",
        ":",
        "chunked",
        ",",
        "\t",
        "\0",
        "a",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        ";x",
        "\u{e9}",
    ]);
    let piece = prop_oneof![12 => words.prop_map(|w| w.as_bytes().to_vec()), 1 => any::<u8>().prop_map(|b| vec![b])];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn cuts_of(input: &[u8], mut cuts: Vec<usize>) -> Vec<usize> {
    cuts.retain(|c| *c <= input.len());
    cuts.sort_unstable();
    cuts
}

/// Where another parser finds the end of the request's head, and what it says of its body.
fn as_httparse(input: &[u8]) -> Option<(usize, Option<u64>, bool)> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX as usize];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(len) = request.parse(input).ok()? else { return None };
    let of = |name: &str| {
        let values: Vec<_> = request.headers.iter().filter(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value).collect();
        assert!(values.len() < 2, "{name} twice");
        values.first().map(|v| std::str::from_utf8(v).unwrap().trim().to_ascii_lowercase())
    };
    let length = of("content-length").map(|v| v.parse().unwrap());
    let coding = of("transfer-encoding");
    assert!(coding.as_ref().is_none_or(|c| c == "chunked" && length.is_none()));
    Some((len, length, coding.is_some()))
}

proptest! {
    #[test]
    fn any_split_gives_the_verdict_of_one_shot(input in nearly_http(), cuts in proptest::collection::vec(0usize..300, 0..12)) {
        let cuts = cuts_of(&input, cuts);
        prop_assert_eq!(requests(&input, &cuts), requests(&input, &[]));
        prop_assert_eq!(answers(&input, &cuts), answers(&input, &[]));
        let bytewise: Vec<_> = (0..input.len()).collect();
        prop_assert_eq!(requests(&input, &bytewise), requests(&input, &[]));
        prop_assert_eq!(answers(&input, &bytewise), answers(&input, &[]));
    }

    #[test]
    fn what_passes_is_read_by_others_in_the_same_way(fields in nearly_http(), body in nearly_http()) {
        let input = [&b"POST / HTTP/1.1\r\n"[..], &fields, b"\r\n\r\n", &body].concat();
        let fed = Requests::new(1 << 20).feed(&input);
        if matches!(fed, Ok(Fed::Body | Fed::End(_))) {
            let Some((len, length, is_chunked)) = as_httparse(&input) else { panic!("httparse refuses what passed") };
            match (fed, length, is_chunked) {
                (Ok(Fed::End(end)), _, false) => prop_assert_eq!(end as u64, len as u64 + length.unwrap_or(0)),
                (_, Some(length), false) => prop_assert!(((input.len() - len) as u64) < length),
                (_, None, false) => prop_assert!(false, "a body that nothing announces"),
                (Ok(Fed::End(end)), _, true) => prop_assert!(end > len && input[..end].ends_with(b"\r\n\r\n")),
                _ => {}
            }
        }
    }

    #[test]
    fn no_bytes_panic(input in proptest::collection::vec(any::<u8>(), 0..300), cuts in proptest::collection::vec(0usize..300, 0..5)) {
        let cuts = cuts_of(&input, cuts);
        prop_assert!(requests(&input, &cuts).0.len() + answers(&input, &cuts).0.len() <= input.len());
    }
}

#[test]
fn it_is_said_where_an_answers_head_ended() {
    let head = b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n";
    let mut answers = Answers::new(1 << 10);
    answers.ask(false);
    let mut fed = |input: &[u8]| (answers.feed(input).unwrap(), answers.head_end());
    assert_eq!(fed(b"HTTP/1.1 103 x\r\n\r\n"), (Fed::Head, 0), "an interim response is no answer");
    assert_eq!(fed(&head[..9]), (Fed::Head, 0));
    assert_eq!(fed(&[&head[9..], b"o"].concat()), (Fed::Body, head.len() - 9));
    assert_eq!(fed(b"k"), (Fed::End(1), 0));
}
