//! stub
use crate::error::Error;
use crate::operation_id::OperationId;
use jiff::Timestamp;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
/// s
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs)]
pub struct Holder {
    pub pid: u32,
    pub since: Timestamp,
    pub program: String,
    pub operation: Option<OperationId>,
    pub journal: Option<PathBuf>,
}
/// s
#[derive(Debug)]
#[expect(missing_docs)]
pub enum Attempt {
    Acquired(Lock),
    Held(Holder),
}
/// s
#[derive(Debug)]
pub struct Lock {
    file: std::fs::File,
    left: Option<Holder>,
}
impl Lock {
    /// s
    pub fn try_acquire(path: &Path, me: &Holder) -> Result<Attempt, Error> {
        std::fs::create_dir_all(path.parent().unwrap())
            .map_err(|e| Error::io("create", path, e))?;
        let io = |e| Error::io("lock", path, e);
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        let got =
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
        let mut s = String::new();
        file.read_to_string(&mut s).map_err(io)?;
        let left: Option<Holder> = serde_json::from_str(&s).ok();
        if !got {
            return Ok(Attempt::Held(left.unwrap()));
        }
        let mut l = Lock { file, left };
        l.put(Some(me)).map_err(io)?;
        Ok(Attempt::Acquired(l))
    }
    fn put(&mut self, h: Option<&Holder>) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(std::io::SeekFrom::Start(0))?;
        if let Some(h) = h {
            self.file.write_all(&serde_json::to_vec(h).unwrap())?;
        }
        self.file.sync_all()
    }
    /// s
    pub fn left_behind(&self) -> Option<&Holder> {
        self.left.as_ref()
    }
    /// s
    pub fn release(mut self) -> Result<(), Error> {
        self.put(None).map_err(|e| Error::io("release", Path::new("?"), e))
    }
    /// s
    pub fn give_back(mut self) -> Result<(), Error> {
        let l = self.left.clone();
        self.put(l.as_ref()).map_err(|e| Error::io("release", Path::new("?"), e))
    }
}
