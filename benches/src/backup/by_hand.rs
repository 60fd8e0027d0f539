//! The same backup as somebody makes it with programs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Failure;

pub(super) struct ByHand {
    database: PathBuf,
    folder: PathBuf,
    level: i32,
}

impl ByHand {
    pub fn new(database: &Path, folder: PathBuf, level: i32) -> Self {
        Self { database: database.to_owned(), folder, level }
    }

    /// ```sh
    /// mkdir backup
    /// sqlite3 app.db ".backup backup/copy"
    /// # checked only: sqlite3 backup/copy "PRAGMA integrity_check(1)"; sha256sum backup/copy
    /// zstd -1 -T1 < backup/copy | tee backup/db.zst | sha256sum > backup/db.zst.sha256
    /// rm backup/copy
    /// sync backup/db.zst backup/db.zst.sha256 backup .
    /// ```
    pub fn back_up(&mut self, checked: bool) -> Result<(), Failure> {
        std::fs::create_dir(&self.folder)?;
        let copy = self.folder.join("copy");
        let backup = format!(".backup '{}'", copy.display());
        finish("sqlite3", Command::new("sqlite3").arg(&self.database).arg(backup).spawn()?)?;
        if checked {
            let mut check = Command::new("sqlite3");
            let check = check.arg(&copy).arg("PRAGMA integrity_check(1)").output()?;
            if !check.status.success() || check.stdout != b"ok\n" {
                return Err("the copy fails its integrity check".into());
            }
            let digest = File::create_new(self.folder.join("db.sha256"))?;
            finish("sha256sum", Command::new("sha256sum").arg(&copy).stdout(digest).spawn()?)?;
        }
        self.compress(&copy)?;
        std::fs::remove_file(&copy)?;
        for entry in std::fs::read_dir(&self.folder)? {
            File::open(entry?.path())?.sync_all()?;
        }
        File::open(&self.folder)?.sync_all()?;
        File::open(self.folder.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        Ok(())
    }

    fn compress(&self, copy: &Path) -> Result<(), Failure> {
        let level = format!("-{}", self.level);
        let mut zstd = Command::new("zstd");
        zstd.args([level.as_str(), "-T1", "-q", "-c"]).stdin(File::open(copy)?);
        let mut zstd = zstd.stdout(Stdio::piped()).spawn()?;
        let mut tee = Command::new("tee");
        tee.arg(self.stored()).stdin(zstd.stdout.take().ok_or("zstd has no output")?);
        let mut tee = tee.stdout(Stdio::piped()).spawn()?;
        let mut sum = Command::new("sha256sum");
        sum.stdin(tee.stdout.take().ok_or("tee has no output")?);
        let sum = sum.stdout(File::create_new(self.folder.join("db.zst.sha256"))?).spawn()?;
        for (name, child) in [("zstd", zstd), ("tee", tee), ("sha256sum", sum)] {
            finish(name, child)?;
        }
        Ok(())
    }

    fn stored(&self) -> PathBuf {
        self.folder.join("db.zst")
    }

    /// Not part of the time: a pipeline that lost something would be quick.
    pub fn prove_and_remove(&mut self) -> Result<(), Failure> {
        let said = std::fs::read_to_string(self.folder.join("db.zst.sha256"))?;
        let is = Command::new("sha256sum").stdin(File::open(self.stored())?).output()?;
        if said.as_bytes() != is.stdout || said.len() < 64 {
            return Err("the digest by hand is not the file's".into());
        }
        let test = Command::new("zstd").args(["-t", "-q"]).arg(self.stored()).spawn()?;
        finish("zstd -t", test)?;
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }
}

fn finish(name: &str, mut child: Child) -> Result<(), Failure> {
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    Err(format!("`{name}` failed: {status}").into())
}
