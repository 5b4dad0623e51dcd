//! What an application answers besides its guests.

use http::{Request, Version};
use http_body_util::BodyExt as _;
use manifest::{Pattern, Route, Target};
use node_runtime::application::{Connection, RouteInfo};

use crate::support::{App, guest, text};

/// A guest that is never asked.
fn silent() -> Vec<u8> {
    text(r#"(module (func (export "_start")))"#)
}

fn fixed(path: &str, status: u16) -> Route {
    let headers = [("x-fixed".to_owned(), "yes".to_owned())].into();
    Route {
        pattern: Pattern::Path(path.to_owned()),
        target: Target::Static { status, headers, body: "fixed".to_owned() },
    }
}

#[tokio::test]
async fn a_path_without_a_route_is_an_empty_404() {
    let reply = App::of(&silent()).without_routes().serve().await.get("/a").await;
    assert_eq!((reply.status, reply.text(), reply.header("content-length")), (404, "", "0"));
}

#[tokio::test]
async fn health_and_info_answer_whatever_the_routes_and_the_base_are() {
    let mut app = App::of(&silent()).wagi();
    app.application.base = "/base".to_owned();
    app.settings.bundle = Some("test-app/1.2.3".to_owned());
    let served = app.serve().await;
    assert_eq!(served.get("/.well-known/spin/health").await.text(), "OK");
    let info = served.get("/.well-known/spin/info").await;
    assert_eq!(info.header("content-type"), "application/json");
    assert_eq!(
        info.text(),
        "{\n  \"name\": \"test-app\",\n  \"version\": \"1.2.3\",\n  \"bindle_version\": \"test-app/1.2.3\"\n}"
    );
    assert_eq!(served.get("/.well-known/spin/else").await.status, 404);
}

#[tokio::test]
async fn a_static_response_is_sent_as_it_is() {
    let mut app = App::of(&silent()).without_routes();
    app.application.routes.push(fixed("/teapot", 418));
    let served = app.serve().await;
    let reply = served.get("/teapot").await;
    assert_eq!((reply.status, reply.header("x-fixed"), reply.text()), (418, "yes", "fixed"));
    let head = served.send(Request::head("/teapot")).await;
    assert_eq!((head.status, head.text(), head.header("content-length")), (418, "", "5"));
}

#[tokio::test]
async fn the_connection_and_the_length_of_a_static_response_are_the_servers_whatever_its_headers_say() {
    let mut app = App::of(&silent()).without_routes();
    let mut route = fixed("/", 200);
    if let Target::Static { headers, .. } = &mut route.target {
        for (name, value) in
            [("connection", "close, x-fixed"), ("transfer-encoding", "chunked"), ("content-length", "99")]
        {
            headers.insert(name.to_owned(), value.to_owned());
        }
    }
    app.application.routes.push(route);
    let reply = app.serve().await.get("/").await;
    assert_eq!((reply.text(), reply.header("x-fixed"), reply.header("content-length")), ("fixed", "yes", "5"));
    assert_eq!((reply.header("connection"), reply.header("transfer-encoding")), ("", ""));
}

#[tokio::test]
async fn routes_are_listed_with_the_base_and_without_private_ones() {
    let mut app = App::of(&silent()).wagi();
    app.application.base = "/base".to_owned();
    app.application.routes.push(fixed("/fixed", 200));
    app.application.routes.push(Route { pattern: Pattern::Private, ..fixed("", 200) });
    let application = app.build().await.unwrap();
    let id = "main".parse().unwrap();
    let routes: Vec<RouteInfo<'_>> = application.routes().collect();
    assert_eq!(
        routes,
        [
            RouteInfo { component: Some(&id), path: "/base", wildcard: true },
            RouteInfo { component: None, path: "/base/fixed", wildcard: false },
        ]
    );
}

#[tokio::test]
async fn a_request_without_a_host_is_a_400_in_http_1_1_and_fine_in_http_1_0() {
    let application = App::of(&guest("http-rust")).build().await.unwrap();
    let connection = Connection::new("127.0.0.1:9".parse().unwrap(), http::uri::Scheme::HTTP);
    let ask = async |version| {
        let body = http_body_util::Empty::new().map_err(|never: std::convert::Infallible| match never {});
        let body = body.map_err(|error: hyper::Error| error);
        let request = Request::get("/headers").version(version).body(body).unwrap();
        let response = application.handle(request, &connection).await;
        let status = response.status().as_u16();
        (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    assert_eq!(ask(Version::HTTP_11).await.0, 400);
    let (status, text) = ask(Version::HTTP_10).await;
    assert_eq!(status, 200);
    assert!(text.contains("spin-full-url: http://localhost/headers"), "{text}");
}
