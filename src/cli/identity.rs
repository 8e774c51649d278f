//! What a file holds, in short: a later run goes on only with the same content.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const CHUNK_BYTES: usize = 64 * 1024;

/// The digest must not change between versions of usher.
const DIGEST: Uuid = Uuid::from_u128(0x0c8e_54f1_9a3d_4b7e_8f60_2b91_d7c4_5e13);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub bytes: u64,
    pub digest: Uuid,
}

impl Identity {
    pub async fn of(path: &Path) -> anyhow::Result<Self> {
        let file = path.to_owned();
        let reading = tokio::task::spawn_blocking(move || read(&file));
        reading
            .await?
            .with_context(|| format!("{} can't be read", path.display()))
    }
}

/// The digest is a chain of UUIDv5 over chunks of the file.
fn read(path: &Path) -> std::io::Result<Identity> {
    let mut file = File::open(path)?;
    let mut identity = Identity {
        bytes: 0,
        digest: DIGEST,
    };
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    loop {
        chunk.clear();
        (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(identity);
        }
        identity.bytes += chunk.len() as u64;
        identity.digest = Uuid::new_v5(&identity.digest, &chunk);
    }
}
