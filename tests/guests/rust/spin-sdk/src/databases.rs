//! `/db/<interface>`: the body's first line is an address, the second what to do, the others are arguments (`i:1`, `s:text`,
//! `b:bytes`, `f:0.5`, `t:true`, `n:`). Answers with what the call returned, as Rust shows it.

use spin_sdk::{mqtt, mysql, pg, pg3, pg4, redis};

/// What a request asks for.
struct Ask<'a> {
    address: &'a str,
    what: &'a str,
    arguments: Vec<&'a str>,
}

pub fn handle(interface: &str, body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let mut lines = body.lines();
    let ask = Ask {
        address: lines.next().unwrap_or_default(),
        what: lines.next().unwrap_or_default(),
        arguments: lines.collect(),
    };
    match interface {
        "redis" => over_redis(&ask),
        "redis-open" => open_many(&ask),
        "pg" => over_pg(&ask),
        "pg3" => over_pg3(&ask),
        "pg4" => over_pg4(&ask),
        "mysql" => over_mysql(&ask),
        "mqtt" => over_mqtt(&ask),
        _ => "no such interface".to_owned(),
    }
}

fn over_redis(ask: &Ask<'_>) -> String {
    let connection = match redis::Connection::open(ask.address) {
        Ok(connection) => connection,
        Err(error) => return format!("open: {error:?}"),
    };
    // Several commands over one connection, separated by `;`.
    let shown: Vec<String> = ask.what.split(';').map(|what| one_command(&connection, what, &ask.arguments)).collect();
    shown.join("\n")
}

fn one_command(connection: &redis::Connection, what: &str, arguments: &[&str]) -> String {
    let first = arguments.first().copied().unwrap_or_default();
    let rest: Vec<String> = arguments.iter().skip(1).map(|&argument| argument.to_owned()).collect();
    let all: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let value = rest.first().map(|value| value.clone().into_bytes()).unwrap_or_default();
    match what {
        "publish" => format!("{:?}", connection.publish(first, &value)),
        "get" => format!("{:?}", connection.get(first).map(|value| value.map(text))),
        "set" => format!("{:?}", connection.set(first, &value)),
        "incr" => format!("{:?}", connection.incr(first)),
        "del" => format!("{:?}", connection.del(&all)),
        "sadd" => format!("{:?}", connection.sadd(first, &rest)),
        "smembers" => format!("{:?}", connection.smembers(first)),
        "srem" => format!("{:?}", connection.srem(first, &rest)),
        _ => {
            let (command, own) = what.split_once(' ').unwrap_or((what, ""));
            let own: Vec<&str> = own.split(' ').filter(|argument| !argument.is_empty()).collect();
            let given = if own.is_empty() { arguments } else { &own };
            let parameters: Vec<redis::RedisParameter> = given
                .iter()
                .map(|argument| match argument.split_once(':') {
                    Some(("i", number)) => redis::RedisParameter::Int64(number.parse().unwrap()),
                    _ => redis::RedisParameter::Binary(argument.as_bytes().to_vec()),
                })
                .collect();
            let replies = connection.execute(command, &parameters).map(|replies| {
                let show = |reply| match reply {
                    redis::RedisResult::Binary(bytes) => format!("Binary({})", text(bytes)),
                    other => format!("{other:?}"),
                };
                replies.into_iter().map(show).collect::<Vec<_>>().join(", ")
            });
            match replies {
                Ok(replies) => format!("[{replies}]"),
                Err(error) => format!("{error:?}"),
            }
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Opens connections until one fails, then says how many there were and why not more.
fn open_many(ask: &Ask<'_>) -> String {
    let mut open = Vec::new();
    loop {
        match redis::Connection::open(ask.address) {
            Ok(connection) => open.push(connection),
            Err(error) => return format!("{}: {error:?}", open.len()),
        }
        if open.len() > 300 {
            return "there is no limit".to_owned();
        }
    }
}

macro_rules! parameters {
    ($interface:ident, $ask:expr) => {
        $ask.arguments
            .iter()
            .map(|argument| match argument.split_once(':').unwrap_or((argument, "")) {
                ("i", number) => $interface::ParameterValue::Int64(number.parse().unwrap()),
                ("i32", number) => $interface::ParameterValue::Int32(number.parse().unwrap()),
                ("s", text) => $interface::ParameterValue::Str(text.to_owned()),
                ("b", bytes) => $interface::ParameterValue::Binary(bytes.as_bytes().to_vec()),
                ("f", number) => $interface::ParameterValue::Floating64(number.parse().unwrap()),
                ("t", is) => $interface::ParameterValue::Boolean(is == "true"),
                _ => $interface::ParameterValue::DbNull,
            })
            .collect::<Vec<_>>()
    };
}

/// `execute` of statements that begin with `!`, else `query`; several, separated by `;;`, over one connection.
macro_rules! relational {
    ($ask:expr, $parameters:expr, $connection:path) => {{
        use $connection as Connection;
        let connection = match Connection::open($ask.address) {
            Ok(connection) => connection,
            Err(error) => return format!("open: {error:?}"),
        };
        let mut shown = Vec::new();
        for statement in $ask.what.split(";;") {
            shown.push(match statement.strip_prefix('!') {
                Some(statement) => format!("{:?}", connection.execute(statement, &$parameters)),
                None => match connection.query(statement, &$parameters) {
                    Ok(rows) => format!("{:?}\n{:?}", rows.columns, rows.rows),
                    Err(error) => format!("{error:?}"),
                },
            });
        }
        shown.join("\n")
    }};
}

fn over_pg(ask: &Ask<'_>) -> String {
    let parameters = parameters!(pg, ask);
    relational!(ask, parameters, pg::Connection)
}

fn over_pg3(ask: &Ask<'_>) -> String {
    let parameters = parameters!(pg3, ask);
    relational!(ask, parameters, pg3::Connection)
}

fn over_pg4(ask: &Ask<'_>) -> String {
    use pg4::{ParameterValue as P, RangeBoundKind as Bound};
    let mut parameters = parameters!(pg4, ask);
    if ask.arguments.first() == Some(&"all") {
        let both = |value| (Some((value, Bound::Inclusive)), Some((value, Bound::Exclusive)));
        parameters = vec![
            P::Date((2024, 2, 29)),
            P::Time((23, 59, 58, 123_456_000)),
            P::Datetime((1999, 12, 31, 1, 2, 3, 0)),
            P::Timestamp(-1),
            P::Uuid("00000000-0000-0000-0000-00000000002a".to_owned()),
            P::Jsonb(br#"{"a": [1, null]}"#.to_vec()),
            P::Decimal("-123456789012345678901234567890.05".to_owned()),
            P::RangeInt32({
                let (lower, _) = both(1);
                (lower, Some((5, Bound::Exclusive)))
            }),
            P::RangeInt64((None, Some((7, Bound::Exclusive)))),
            P::RangeDecimal((Some(("0.5".to_owned(), Bound::Exclusive)), None)),
            P::ArrayInt32(vec![Some(1), None]),
            P::ArrayInt64(vec![Some(i64::MAX)]),
            P::ArrayDecimal(vec![Some("1.50".to_owned()), None]),
            P::ArrayStr(vec![Some("a\"},\\".to_owned()), None]),
            P::Interval(pg4::Interval { micros: 1, days: -2, months: 3 }),
        ];
    }
    relational!(ask, parameters, pg4::Connection)
}

fn over_mysql(ask: &Ask<'_>) -> String {
    let parameters = parameters!(mysql, ask);
    relational!(ask, parameters, mysql::Connection)
}

fn over_mqtt(ask: &Ask<'_>) -> String {
    let argument = |index: usize| ask.arguments.get(index).copied().unwrap_or_default();
    let connection = match mqtt::Connection::open(ask.address, argument(0), argument(1), 10) {
        Ok(connection) => connection,
        Err(error) => return format!("open: {error:?}"),
    };
    [mqtt::Qos::AtMostOnce, mqtt::Qos::AtLeastOnce, mqtt::Qos::ExactlyOnce]
        .into_iter()
        .map(|quality| format!("{:?}", connection.publish(ask.what, &argument(2).as_bytes().to_vec(), quality)))
        .collect::<Vec<_>>()
        .join("\n")
}
