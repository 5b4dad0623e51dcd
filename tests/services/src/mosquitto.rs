//! [`Mosquitto`].

use anyhow::Result;

use crate::{
    PASSWORD, USER, authority,
    keeper::{Package, Server, run, talk},
};

const PACKAGE: Package = Package { name: "mosquitto", account: "mosquitto", stop: "TERM" };
/// What a broker answers to who may connect: CONNACK, 2 bytes, no session, code 0 (MQTT 3.1.1, 3.2).
const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];

/// A Mosquitto broker that knows [`USER`](crate::USER) and nobody else.
#[derive(Debug)]
pub struct Mosquitto {
    _server: Server,
    /// Where it speaks in the clear.
    pub port: u16,
    /// Where it speaks TLS.
    pub tls_port: u16,
}

impl Mosquitto {
    pub(crate) fn start() -> Result<Self> {
        let (program, passwords) = (PACKAGE.program("mosquitto")?, PACKAGE.program("mosquitto_passwd")?);
        let identity = authority().localhost()?;
        let (server, [port, tls_port]) = PACKAGE.start(
            |directory, ports| {
                let known = directory.write("passwords", "")?;
                run(PACKAGE.command(&passwords)?.arg("-b").arg(&known).args([USER, PASSWORD]))?;
                let settings = format!(
                    "allow_anonymous false\npassword_file {}\npersistence false\nlog_dest stdout\n\
                     listener {} 127.0.0.1\nlistener {} 127.0.0.1\ncertfile {}\nkeyfile {}\n",
                    known.display(),
                    ports[0],
                    ports[1],
                    directory.write("certificate.pem", &identity.certificate)?.display(),
                    directory.write("key.pem", &identity.key)?.display(),
                );
                let mut command = PACKAGE.command(&program)?;
                command.arg("-c").arg(directory.write("mosquitto.conf", &settings)?);
                Ok((command, ports))
            },
            |[port, _]| talk(*port, &connect(), &ACCEPTED),
        )?;
        Ok(Self { _server: server, port, tls_port })
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// The address for TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("mqtts://localhost:{}", self.tls_port)
    }
}

/// CONNECT with a user and password (MQTT 3.1.1, 3.1).
fn connect() -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04\xc2\0\x3c".to_vec();
    for text in ["ready", USER, PASSWORD] {
        let size = u16::try_from(text.len()).unwrap_or_default();
        body.extend(size.to_be_bytes());
        body.extend(text.as_bytes());
    }
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap_or_default()];
    packet.append(&mut body);
    packet
}
