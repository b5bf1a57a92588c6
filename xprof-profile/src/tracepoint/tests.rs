use super::*;

const COMMON: &str = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
    \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n";

/// A `format` file with these fields (`TYPE NAME|offset|size|signed`) and this print format.
fn file(id: u32, fields: &[&str], print: &str) -> Vec<u8> {
    let mut text = format!("name: it\nID: {id}\nformat:\n{COMMON}");
    for field in fields {
        let [declaration, offset, size, signed] = field.split('|').collect::<Vec<_>>()[..] else { panic!("{field}") };
        text += &format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n");
    }
    text += &format!("\nprint fmt: {print}\n");
    text.into_bytes()
}

/// A TRACING_DATA section with one event and one kernel string.
fn blob(order: ByteOrder, format: &[u8]) -> Vec<u8> {
    let u32 = |n: u32| if order == ByteOrder::Little { n.to_le_bytes() } else { n.to_be_bytes() };
    let u64 = |n: usize| if order == ByteOrder::Little { n.to_le_bytes() } else { n.to_be_bytes() };
    let strings = b"0xffffffff82000010 : \"Start scheduler-tick\"\n";
    let parts: [&[u8]; 19] = [
        b"\x17\x08\x44tracing",
        b"0.6\0",
        &[u8::from(order == ByteOrder::Big), 8],
        &u32(4096),
        b"header_page\0",
        &u64(3),
        b"a\nb",
        b"header_event\0",
        &u64(0),
        &u32(1),
        &u64(2),
        b"xx",
        &u32(1),
        b"test\0",
        &u32(1),
        &u64(format.len()),
        format,
        &u32(0),
        &[&u32(strings.len() as u32)[..], strings, &u64(0)].concat(),
    ];
    parts.concat()
}

struct One;

impl Functions for One {
    fn function(&mut self, address: u64) -> Option<(Arc<str>, u64)> {
        (0xffff_ffff_8100_0000..0xffff_ffff_8100_0100)
            .contains(&address)
            .then(|| ("do_it".into(), 0xffff_ffff_8100_0000))
    }
}

fn print(fields: &[&str], format: &str, record: &[u8]) -> String {
    let formats = Formats::parse(&blob(ByteOrder::Little, &file(7, fields, format))).expect("a section");
    assert_eq!(formats.system(7), Some("test"));
    let format = formats.get(7).expect("an event");
    let mut out = Vec::new();
    format.print(record, &mut One, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A record of one 8-byte field.
fn one(format: &str, value: u64) -> String {
    print(&["unsigned long x|8|8|0"], format, &[&[0; 8][..], &value.to_le_bytes()].concat())
}

#[test]
fn numbers_are_printed_as_c_does() {
    assert_eq!(one("\"%d %u %x %lx %hhu %hd\", REC->x, REC->x, REC->x, REC->x, REC->x, REC->x", u64::MAX - 1), {
        "-2 4294967294 fffffffe fffffffffffffffe 254 -2"
    });
    assert_eq!(
        one(
            "\"[%08lx][%-6d][%#x][%6.3d][%+d][%o][%c]%%\\n\", REC->x, REC->x, REC->x, REC->x, REC->x, REC->x, REC->x",
            65
        ),
        { "[00000041][65    ][0x41][   065][+65][101][A]%\n" }
    );
    assert_eq!(one("\"%p %p\", (void *)REC->x, 0", 0x1234), "0x1234 (nil)");
    assert_eq!(one("\"%*d|%.*s\", 5, REC->x, 2, \"abc\"", 7), "    7|ab");
}

/// libtraceevent's reading, where it is not C's.
#[test]
fn operators_rank_as_in_libtraceevent() {
    assert_eq!(one("\"%d\", REC->x + 2 * 3", 1), "7");
    assert_eq!(one("\"%d\", REC->x * 2 + 3", 1), "5");
    assert_eq!(one("\"%d\", REC->x - 2 - 1", 5), "4", "the right operand takes what follows at the same rank");
    assert_eq!(one("\"%d\", REC->x & (1 | 2)", 4), "2", "a parenthesis on the right is opened");
    assert_eq!(one("\"%s\", REC->x > 1 ? \"many\" : \"one\"", 1), "one");
    assert_eq!(one("\"%lu\", -1 + REC->x", 5), "4");
    assert_eq!(one("\"%d\", !!(REC->x)", 5), "1");
    assert_eq!(one("\"%x\", (unsigned char)REC->x >> 4", 0x1ff), "f");
    assert_eq!(one("\"%d\", REC->x / 0", 5), "0");
    assert_eq!(one("\"%d %d\", sizeof(REC->x), sizeof(unsigned int)", 5), "8 4");
}

#[test]
fn flags_and_symbols() {
    let flags = "\"%s\", __print_flags(REC->x, \"|\", { (1UL) << 0, \"A\" }, { 0x2, \"B\" \"C\" }, { ~0, \"none\" })";
    assert_eq!(one(flags, 0), "none");
    // A negative row is printed, as there, whenever nothing is left.
    assert_eq!(one(flags, 3), "A|BCnone");
    assert_eq!(one(flags, 0x13), "A|BC|0x10");
    assert_eq!(one(flags, 0x10), "0x10");
    let symbols = "\"%-4s|%s\", __print_symbolic(REC->x, { 1, \"one\" }, { TIMER_SOFTIRQ, \"never\" }, { -1, \"minus\" }), \
        __print_symbolic((u32)REC->x, { -1, \"minus\" })";
    assert_eq!(one(symbols, 1), "one |0x1");
    assert_eq!(one(symbols, u64::MAX), "minus|0xffffffff");
}

#[test]
fn functions_and_strings() {
    assert_eq!(one("\"%pS %ps\", REC->x, (void *)REC->x", 0xffff_ffff_8100_0010), "do_it+0x10 do_it");
    assert_eq!(one("\"%pS\", REC->x", 0x10), "0x10");
    let string = ["const char * s|8|8|0"];
    let record = [&[0; 8][..], &0xffff_ffff_8200_0010u64.to_le_bytes()].concat();
    assert_eq!(print(&string, "\"%s\", REC->s", &record), "Start scheduler-tick");
}

#[test]
fn arrays() {
    let fields =
        ["char comm[8]|8|8|0", "__data_loc char[] name|16|4|0", "__rel_loc u16[] list|20|4|0", "u8 mac[6]|24|6|0"];
    let mut record = vec![0; 8];
    record.extend_from_slice(b"sh\0xxxxx");
    record.extend_from_slice(&(32u32 | 4 << 16).to_le_bytes());
    record.extend_from_slice(&(12u32 | 4 << 16).to_le_bytes());
    record.extend_from_slice(&[1, 2, 3, 0xa, 0xb, 0xc, 0, 0]);
    record.extend_from_slice(b"abc\0\x01\x02\x03\x04");
    assert_eq!(print(&fields, "\"%s %s\", REC->comm, __get_str(name)", &record), "sh abc");
    assert_eq!(print(&fields, "\"%pM %d\", REC->mac, REC->mac[3]", &record), "01:02:03:0a:0b:0c 10");
    let list = "\"%s %s %*phC %d\", __print_array(__get_dynamic_array(list), 2, 2), \
        __print_hex(__get_dynamic_array(list), __get_dynamic_array_len(list)), 3, __get_dynamic_array(list), \
        __get_dynamic_array_len(list)";
    assert_eq!(print(&fields, list, &record), "{0x201,0x403} 01 02 03 04 01:02:03 4");
    assert_eq!(print(&fields, "\"%s %s\", __get_bitmask(name), __get_cpumask(name)", &record), {
        "00636261 0,5-6,9,13-14,16-17,21-22"
    });
    let unknown = "\"%d\", no_such(REC->mac)";
    assert_eq!(print(&fields, unknown, &record), {
        "[FAILED TO PARSE] comm=sh name=abc list=ARRAY[01, 02, 03, 04] mac=ARRAY[01, 02, 03, 0a, 0b, 0c]"
    });
}

#[test]
fn addresses() {
    let fields = ["__u8 a[4]|8|4|0", "__u8 b[16]|12|16|0", "__u8 s[28]|28|28|0"];
    let record = |v6: [u8; 16], socket: &[u8]| {
        let mut record = [&[0; 8][..], &[10, 0, 2, 15], &v6].concat();
        record.extend_from_slice(socket);
        record.resize(56, 0);
        record
    };
    let format = "\"%pI4 %pi4 %pI6c %pISpc\", REC->a, REC->a, REC->b, REC->s";
    let mut v6 = [0; 16];
    v6[0] = 0xfe;
    v6[1] = 0x80;
    v6[15] = 1;
    assert_eq!(
        print(&fields, format, &record(v6, &[2, 0, 0, 80, 127, 0, 0, 1])),
        "10.0.2.15 010.000.002.015 fe80::1 127.0.0.1:80"
    );
    let mut socket = vec![10, 0, 0, 80, 0, 0, 0, 0];
    socket.extend_from_slice(&[0; 15]);
    socket.push(1);
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[0xff, 0xff, 1, 2, 3, 4]);
    assert_eq!(print(&fields, format, &record(mapped, &socket)), "10.0.2.15 010.000.002.015 ::ffff:1.2.3.4 [::1]:80");
}

#[test]
fn big_endian_records() {
    let formats =
        Formats::parse(&blob(ByteOrder::Big, &file(9, &["u32 x|8|4|0"], "\"%x\", REC->x"))).expect("a section");
    let mut out = Vec::new();
    formats.get(9).expect("an event").print(&[0, 9, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], &mut (), &mut out);
    assert_eq!(out, b"1020304");
}

/// Records and sections that are cut short or lie are printed as far as they go.
#[test]
fn hostile_input() {
    let fields = ["char comm[8]|8|8|0", "__data_loc char[] name|16|4|0", "int huge[4]|18446744073709551615|16|0"];
    let all = "\"%s %s %d %pM %pISpc\", REC->comm, __get_str(name), REC->huge[3], REC->comm, REC->huge";
    for length in 0..20 {
        print(&fields, all, &vec![0xff; length]);
    }
    let deep = format!("\"%d\", {}REC->x{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(one(&deep, 1), "[FAILED TO PARSE] x=0x1");
    let long = format!("\"%d\", 1{}", "+1".repeat(100_000));
    assert_eq!(one(&long, 1), "[FAILED TO PARSE] x=0x1");
    assert!(one("\"%99999999999999999999d\", REC->x", 1).len() <= 4096);
    let section = blob(ByteOrder::Little, &file(7, &fields, all));
    for length in 0..section.len() {
        if let Ok(formats) = Formats::parse(&section[..length]) {
            formats.get(7);
        }
    }
}

/// Formats and records with bytes changed at random (a fixed sequence) print something, and nothing panics.
#[test]
fn changed_bytes() {
    let fields =
        ["char comm[8]|8|8|0", "__data_loc u16[] list|16|4|0", "__rel_loc char[] name|20|4|0", "u8 mac[6]|24|6|0"];
    let print = "\"%-8s %s %*phC %pM %pISpc %d%%\", REC->comm, __get_str(name), 3, __get_dynamic_array(list), REC->mac, \
        __get_sockaddr(list), ((REC->comm[3] & (1 << 4)) != 0) ? -1 : __builtin_expect(!!REC->mac[1], 0)";
    let format = file(7, &fields, print);
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let mut format = format.clone();
        for _ in 0..=random(4) {
            let at = random(format.len());
            format[at] = b"()[]{}\"'%->?:+*,0129 xREC"[random(25)];
        }
        let record: Vec<u8> = (0..random(40)).map(|_| random(256) as u8).collect();
        let formats = Formats::parse(&blob(ByteOrder::Little, &format)).expect("a section");
        if let Some(format) = formats.get(7) {
            format.print(&record, &mut One, &mut Vec::new());
        }
    }
}
