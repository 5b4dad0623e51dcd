//! `/db/<interface>`: databases and brokers, by the interfaces of `spin:...@3` and `spin:postgres@4.2`. The body's first line
//! is an address, the second what to do, the others are arguments. Answers with what the calls returned, as Rust shows it.

use crate::text;
use spin_sdk::http::body::IncomingBodyExt as _;
use spin_sdk::http::{BoxBody, Request, Response, Result};
use spin_sdk::{mqtt, mysql, pg, redis};

/// What a request asks for.
struct Ask<'a> {
    address: &'a str,
    what: &'a str,
    arguments: Vec<&'a str>,
}

pub async fn handle(request: Request, interface: &str) -> Result<Response<BoxBody>> {
    let body = request.into_body().bytes().await?;
    let body = String::from_utf8_lossy(&body);
    let mut lines = body.lines();
    let (address, what) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let ask = Ask { address, what, arguments: lines.collect() };
    let shown = match interface {
        "redis" => over_redis(&ask).await,
        "pg" => over_pg(&ask).await,
        "pg-ca" => over_pg_with_authority(&ask).await,
        "pg-first" => first_row(&ask).await,
        "mysql" => over_mysql(&ask).await,
        "mqtt" => over_mqtt(&ask).await,
        _ => "no such interface".to_owned(),
    };
    text(200, &shown)
}

async fn over_redis(ask: &Ask<'_>) -> String {
    let connection = match redis::Connection::open(ask.address).await {
        Ok(connection) => connection,
        Err(error) => return format!("open: {error:?}"),
    };
    let key = ask.what;
    let set = format!("{key}-set");
    // Two calls at once over one connection.
    let (one, other) = futures::join!(connection.set(key, "1"), connection.sadd(&set, ["a", "b"]));
    let mut shown = vec![format!("{one:?} {other:?}")];
    shown.push(format!("{:?}", connection.incr(key).await));
    shown.push(format!("{:?}", connection.get(key).await.map(|value| value.map(String::from_utf8))));
    let mut members = connection.smembers(&set).await;
    members.iter_mut().for_each(|members| members.sort());
    shown.push(format!("{members:?} {:?}", connection.srem(&set, ["a", "c"]).await));
    shown.push(format!("{:?}", connection.incr(&set).await));
    shown.push(format!("{:?}", connection.publish("channel", "hello").await));
    shown.push(format!("{:?}", connection.execute("TTL", [redis::RedisParameter::Binary(key.into())]).await));
    shown.push(format!("{:?}", connection.del([key, &set, "nothing"]).await));
    shown.join("\n")
}

/// Runs statements that are separated by `;;`; those that begin with `!` answer with a count.
async fn over_pg(ask: &Ask<'_>) -> String {
    let connection = match pg::Connection::open(ask.address).await {
        Ok(connection) => connection,
        Err(error) => return format!("open: {error:?}"),
    };
    statements(&connection, ask).await
}

async fn over_pg_with_authority(ask: &Ask<'_>) -> String {
    let authority = pg::Certificate::Text(ask.arguments.join("\n"));
    let options = pg::OpenOptions { ca_root: Some(authority) };
    match pg::Connection::open_with_options(ask.address, options).await {
        Ok(connection) => statements(&connection, &Ask { arguments: Vec::new(), ..*ask }).await,
        Err(error) => format!("open: {error:?}"),
    }
}

async fn statements(connection: &pg::Connection, ask: &Ask<'_>) -> String {
    let mut shown = Vec::new();
    for statement in ask.what.split(";;") {
        shown.push(match statement.strip_prefix('!') {
            Some(statement) => format!("{:?}", connection.execute(statement, parameters(ask)).await),
            None => match connection.query(statement, parameters(ask)).await {
                Ok(answer) => {
                    let columns = format!("{:?}", answer.columns());
                    let (_, mut rows, end) = answer.into_inner();
                    let mut count = 0;
                    let mut last = None;
                    while let Some(row) = rows.next().await {
                        count += 1;
                        last = Some(row);
                    }
                    drop(rows);
                    format!("{columns}\n{count} rows, the last {last:?}, then {:?}", end.await)
                }
                Err(error) => format!("{error:?}"),
            },
        });
    }
    shown.join("\n")
}

fn parameters(ask: &Ask<'_>) -> Vec<pg::ParameterValue> {
    let parameter = |argument: &&str| match argument.split_once(':').unwrap_or((argument, "")) {
        ("i", number) => pg::ParameterValue::Int64(number.parse().unwrap()),
        ("s", text) => pg::ParameterValue::Str(text.to_owned()),
        _ => pg::ParameterValue::DbNull,
    };
    ask.arguments.iter().map(parameter).collect()
}

/// Takes one row, and leaves the others.
async fn first_row(ask: &Ask<'_>) -> String {
    let connection = match pg::Connection::open(ask.address).await {
        Ok(connection) => connection,
        Err(error) => return format!("open: {error:?}"),
    };
    match connection.query(ask.what, parameters(ask)).await {
        Ok(answer) => {
            let (_, mut rows, _) = answer.into_inner();
            format!("{:?}", rows.next().await)
        }
        Err(error) => format!("{error:?}"),
    }
}

async fn over_mysql(ask: &Ask<'_>) -> String {
    let connection = match mysql::Connection::open(ask.address).await {
        Ok(connection) => connection,
        Err(error) => return format!("open: {error:?}"),
    };
    let mut shown = Vec::new();
    for statement in ask.what.split(";;") {
        shown.push(match statement.strip_prefix('!') {
            Some(statement) => format!("{:?}", connection.execute(statement, vec![]).await),
            None => match connection.query(statement, vec![]).await {
                Ok(answer) => {
                    let columns = format!("{:?}", answer.columns());
                    let rows = answer.collect().await;
                    let rows = rows.map(|rows| rows.len()).map_err(|error| format!("{error:?}"));
                    format!("{columns}\n{rows:?} rows")
                }
                Err(error) => format!("{error:?}"),
            },
        });
    }
    shown.join("\n")
}

async fn over_mqtt(ask: &Ask<'_>) -> String {
    let argument = |index: usize| ask.arguments.get(index).copied().unwrap_or_default();
    let connection = match mqtt::Connection::open(ask.address, argument(0), argument(1), 10).await {
        Ok(connection) => connection,
        Err(error) => return format!("open: {error:?}"),
    };
    let mut shown = Vec::new();
    for quality in [mqtt::Qos::AtMostOnce, mqtt::Qos::AtLeastOnce, mqtt::Qos::ExactlyOnce] {
        shown.push(format!("{:?}", connection.publish(ask.what, argument(2).as_bytes().to_vec(), quality).await));
    }
    shown.join("\n")
}
