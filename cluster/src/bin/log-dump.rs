//! Shows a log in a file as JSON, a line for each record.

use futures_util::StreamExt;
use state_dictionary_cluster::{FileLog, Log, Place, What, dump};
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from).filter(|path| path.is_file()) else {
        return Err("usage: log-dump FILE (a log that no program has open)".into());
    };
    let log = FileLog::open(path)?;
    async_io::block_on(async {
        let head = log.head().await?;
        if let Some(head) = head {
            println!("{{\"checkpoint\":{},\"chunks\":{}}}", head.place.0, head.chunks);
        }
        // A record that is appended now shows where the log ends.
        log.append(1, bytes::Bytes::new()).await?;
        let mut records = log.follow(head.map_or(Place(0), |head| head.place)).boxed();
        while let Some(record) = records.next().await {
            let record = record?;
            if record.node == log.node() && matches!(record.what, What::Entry { .. }) {
                break;
            }
            println!("{}", dump(&record));
        }
        Ok(())
    })
}
