//! Callers of one app, by every way that leads to it, for as long as something goes on that they must not notice.

use std::time::Duration;

use anyhow::Result;

use crate::{
    cluster::{Cluster, ingress},
    expect,
    prober::{Connections, Prober, Sample, Summary, client, get, report},
    until,
};

/// How many requests a second leave on each way.
pub const RATE: u32 = 25;

/// How long each way may take to be open at first.
const OPEN: Duration = Duration::from_secs(60);

/// Constant traffic to one app: through its Service over kept connections and over new ones, and through the ingress.
#[derive(Debug)]
pub struct Traffic {
    ways: Vec<(&'static str, Prober)>,
}

impl Traffic {
    /// Starts it as soon as every way to `path` of the app, which is Ready, is open. Makes an Ingress for `NAME.test`.
    ///
    /// # Errors
    /// When one stays closed.
    pub async fn start(cluster: &Cluster, namespace: &str, app: &str, path: &str) -> Result<Self> {
        cluster.apply(&ingress(namespace, app)).await?;
        let service = format!("{}{path}", cluster.service_url(namespace, app).await?);
        let (through, host) = (format!("{}{path}", cluster.ingress), format!("{app}.test"));
        let host = Some(host.as_str());
        let ways = [
            ("Service", Connections::Kept, &service, None),
            ("Service, new connections", Connections::New, &service, None),
            ("ingress", Connections::Kept, &through, host),
        ];
        let client = client()?;
        for (_, _, url, host) in ways {
            until(url, OPEN, || async {
                let (status, body) = get(&client, url, host).await?;
                expect(status == 200, || format!("{status} {body}"))
            })
            .await?;
        }
        let probers = ways
            .into_iter()
            .map(|(name, connections, url, host)| Ok((name, Prober::start_over(connections, url, host, RATE)?)));
        Ok(Self { ways: probers.collect::<Result<_>>()? })
    }

    /// Ends it and tells what `scenario` cost, way by way.
    ///
    /// # Errors
    /// When a prober ended by itself.
    pub async fn stop(self, scenario: &str) -> Result<Vec<(&'static str, Vec<Sample>)>> {
        let mut all = Vec::new();
        for (way, prober) in self.ways {
            let samples = prober.stop().await?;
            report(&format!("{scenario}, {way}: {}", Summary::of(&samples)));
            all.push((way, samples));
        }
        Ok(all)
    }

    /// The same, where nobody may notice anything.
    ///
    /// # Errors
    /// When a request failed, with what each way says of itself.
    pub async fn lost_nothing(self, scenario: &str) -> Result<Vec<Sample>> {
        let (mut all, mut lost) = (Vec::new(), Vec::new());
        for (way, prober) in self.ways {
            match prober.lost_nothing(&format!("{scenario}, {way}")).await {
                Ok(samples) => all.extend(samples),
                Err(error) => lost.push(format!("{error:#}")),
            }
        }
        expect(lost.is_empty(), || lost.join("\n"))?;
        Ok(all)
    }
}
