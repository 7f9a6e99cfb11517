//! The output of one job while it runs, and afterwards.

use std::io;
use std::path::PathBuf;

use countersign_protocol::digest::{Digest, Digester};
use countersign_protocol::output::{Kept, OutputReport, Stream, StreamReport};

use super::excerpt::Excerpt;
use super::file::{Extent, MAX_WRITE, OutputFile};

/// A piece of a stream (section 13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it begins: later than asked for where what is between is not kept.
    pub(crate) offset: u64,
    /// The bytes.
    pub(crate) data: Vec<u8>,
    /// How many bytes the job has written.
    pub(crate) bytes: u64,
    /// The digest of all of them, once the job has ended.
    pub(crate) digest: Option<Digest>,
}

/// Everything of one job.
#[derive(Debug)]
pub(super) struct Job {
    path: PathBuf,
    limit: u64,
    file: Option<OutputFile>,
    streams: [Running; 2],
    /// Why nothing more is kept.
    fault: Option<String>,
    report: Option<OutputReport>,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Running {
    extent: Extent,
    digester: Digester,
    excerpt: Excerpt,
}

impl Job {
    pub(super) fn new(path: PathBuf, limit: u64) -> Self {
        Self { path, limit, file: None, streams: Default::default(), fault: None, report: None, has_ended: false }
    }

    /// The output of a job that has ended, of an earlier run.
    pub(super) fn of_file(path: PathBuf) -> io::Result<Self> {
        let (file, extents) = OutputFile::open(&path)?;
        let mut job = Self::new(path, file.limit());
        for (stream, extent) in job.streams.iter_mut().zip(extents) {
            stream.extent = extent;
        }
        job.has_ended = true;
        Ok(job)
    }

    /// How many bytes of a stream are kept, beginning and end together. It has no effect once something was written.
    pub(super) fn bound(&mut self, limit: u64) {
        if self.file.is_none() && self.streams.iter().all(|stream| stream.extent.bytes == 0) {
            self.limit = limit;
        }
    }

    /// What the file takes on the disk, about.
    pub(super) fn size(&self) -> u64 {
        self.streams.iter().map(|stream| stream.extent.stored.min(self.limit)).sum::<u64>().saturating_add(4_096)
    }

    /// Takes what the job writes. `room` says whether so many bytes more may be kept.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8], mut room: impl FnMut(u64) -> Result<(), String>) {
        if self.has_ended {
            return;
        }
        let index = stream as usize;
        for piece in bytes.chunks(MAX_WRITE) {
            let (extent, length) = (self.streams[index].extent, piece.len() as u64);
            let grows = extent.stored.saturating_add(length).min(self.limit).saturating_sub(extent.stored);
            if self.fault.is_none() {
                let allowed = if grows == 0 { Ok(()) } else { room(grows) };
                let kept = allowed.and_then(|()| self.keep(index, piece).map_err(|error| error.to_string()));
                self.fault = kept.err();
            }
            let running = &mut self.streams[index];
            running.digester.update(piece);
            running.excerpt.push(piece);
            running.extent.bytes += length;
            if self.fault.is_none() {
                running.extent.stored = running.extent.bytes;
                self.note();
            }
        }
    }

    /// Ends the output, and says what came of it; later it is the same report again. What is written later is passed over.
    pub(super) fn finish(&mut self) -> OutputReport {
        if let Some(report) = &self.report {
            return report.clone();
        }
        self.has_ended = true;
        for stream in &mut self.streams {
            stream.extent.digest = Some(stream.digester.digest());
        }
        if self.fault.is_none()
            && let Err(error) = self.open()
        {
            self.fault = Some(error.to_string());
        }
        self.note();
        let report = OutputReport { stdout: self.describe(0), stderr: self.describe(1) };
        self.file = None;
        for stream in &mut self.streams {
            stream.excerpt = Excerpt::default();
        }
        self.report.insert(report).clone()
    }

    /// Nobody asks for the report any more: its texts are given up.
    pub(super) fn end(&mut self) {
        self.finish();
        if let Some(OutputReport { stdout, stderr }) = &mut self.report {
            for stream in [stdout, stderr] {
                (stream.text, stream.exact) = (String::new(), stream.bytes == 0);
            }
        }
    }

    /// Reads so many bytes at most from the first one on that is kept and not before the offset.
    pub(super) fn read(&self, stream: Stream, offset: u64, max: usize) -> io::Result<Piece> {
        let index = stream as usize;
        let extent = self.streams[index].extent;
        let (head, end) = extent.kept(self.limit);
        let (offset, until) = match offset {
            offset if offset < head => (offset, head),
            offset => (offset.max(end), extent.bytes.max(offset)),
        };
        let length = until.saturating_sub(offset).min(max as u64);
        let length = usize::try_from(length).unwrap_or(max);
        let data = match &self.file {
            _ if length == 0 => Vec::new(),
            Some(file) => file.read(index, offset, length)?,
            None => OutputFile::open(&self.path)?.0.read(index, offset, length)?,
        };
        Ok(Piece { offset, data, bytes: extent.bytes, digest: extent.digest })
    }

    fn open(&mut self) -> io::Result<&OutputFile> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => Ok(none.insert(OutputFile::create(&self.path, self.limit)?)),
        }
    }

    fn keep(&mut self, index: usize, piece: &[u8]) -> io::Result<()> {
        let from = self.streams[index].extent.bytes;
        self.open()?.write(index, from, piece)
    }

    /// Writes how much there is.
    fn note(&mut self) {
        let extents = [self.streams[0].extent, self.streams[1].extent];
        if let Some(file) = &self.file
            && let Err(error) = file.write_header(&extents)
        {
            self.fault.get_or_insert_with(|| error.to_string());
        }
    }

    fn describe(&self, index: usize) -> StreamReport {
        let running = &self.streams[index];
        let (text, exact) = running.excerpt.text();
        let kept = self.kept(index).unwrap_or_else(|error| {
            Some(Kept { head: 0, tail: 0, sha256: Digest::of(b""), fault: Some(error.to_string()) })
        });
        StreamReport { bytes: running.extent.bytes, sha256: running.digester.digest(), kept, text, exact }
    }

    /// What is kept, read once more from where it is kept.
    fn kept(&self, index: usize) -> io::Result<Option<Kept>> {
        let extent = self.streams[index].extent;
        let (head, end) = extent.kept(self.limit);
        if head == extent.bytes {
            return Ok(None);
        }
        let mut digester = Digester::default();
        if let Some(file) = &self.file {
            for (mut at, until) in [(0, head), (end, extent.bytes)] {
                while at < until {
                    let length = usize::try_from(until - at).unwrap_or(MAX_WRITE).min(MAX_WRITE);
                    digester.update(&file.read(index, at, length)?);
                    at += length as u64;
                }
            }
        }
        let fault = self.fault.clone().filter(|_| extent.stored < extent.bytes);
        Ok(Some(Kept { head, tail: extent.bytes - end, sha256: digester.digest(), fault }))
    }
}
