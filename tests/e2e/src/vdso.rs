//! A wrong clock for one process, and for no other.
//!
//! Clocks cannot be set per container, and the host's must not be touched. But programs read the clock through the kernel's vDSO, a page
//! of code that each process has mapped; writing to it through `/proc/PID/mem` gives that process a copy of its own, as breakpoints do.
//! In it `clock_gettime` is replaced by one that asks the kernel and adds an hour to the time of day. x86-64 alone.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, ensure};

/// mov eax, 228 (clock_gettime); syscall; test edi, edi; jne +7; add qword [rsi], 3600; ret
const AN_HOUR_AHEAD: [u8; 19] = [0xb8, 0xe4, 0, 0, 0, 0x0f, 0x05, 0x85, 0xff, 0x75, 0x07, 0x48, 0x81, 0x06, 0x10, 0x0e, 0, 0, 0xc3];

/// A process whose clock is an hour ahead until this is dropped.
#[derive(Debug)]
pub struct Ahead {
    memory: File,
    place: u64,
    before: Vec<u8>,
}

fn mapping(pid: &str) -> anyhow::Result<(u64, u64)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).with_context(|| format!("process {pid} has no vDSO"))?;
    let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).context("an odd line of maps")?;
    Ok((u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?))
}

fn number(image: &[u8], at: usize, length: usize) -> anyhow::Result<usize> {
    let bytes = image.get(at..at + length).context("the vDSO ends early")?;
    let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    Ok(usize::try_from(value)?)
}

/// Where a function is in an ELF image, by its dynamic symbols.
fn symbol(image: &[u8], wanted: &str) -> anyhow::Result<u64> {
    ensure!(image.starts_with(b"\x7fELF\x02\x01"), "the vDSO is no 64-bit ELF image");
    let (sections, size, count) = (number(image, 0x28, 8)?, number(image, 0x3a, 2)?, number(image, 0x3c, 2)?);
    let header = |index: usize| sections + index * size;
    const DYNAMIC_SYMBOLS: usize = 11;
    for section in (0..count).map(header) {
        if number(image, section + 4, 4)? != DYNAMIC_SYMBOLS {
            continue;
        }
        let (start, length) = (number(image, section + 0x18, 8)?, number(image, section + 0x20, 8)?);
        let names = number(image, header(number(image, section + 0x28, 4)?) + 0x18, 8)?;
        for entry in (start..start + length).step_by(24) {
            let name = &image[names + number(image, entry, 4)?..];
            if name.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)) {
                return Ok(u64::try_from(number(image, entry + 8, 8)?)?);
            }
        }
    }
    anyhow::bail!("the vDSO has no {wanted}")
}

impl Ahead {
    /// Puts a process an hour ahead.
    pub fn put(pid: i32) -> anyhow::Result<Self> {
        ensure!(cfg!(target_arch = "x86_64"), "the code is for x86-64");
        let (from, to) = mapping(&pid.to_string())?;
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        let mut image = vec![0; usize::try_from(to - from)?];
        memory.read_exact_at(&mut image, from).context("reading the vDSO")?;
        let place = from + symbol(&image, "__vdso_clock_gettime")?;
        let mut before = vec![0; AN_HOUR_AHEAD.len()];
        memory.read_exact_at(&mut before, place)?;
        memory.write_all_at(&AN_HOUR_AHEAD, place).context("writing to the vDSO")?;
        Ok(Self { memory, place, before })
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // The process may be gone, and its clock with it.
        let _ = self.memory.write_all_at(&self.before, self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_an_hour_ahead_and_comes_back() {
        let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let before = clock();
        let ahead = Ahead::put(i32::try_from(std::process::id()).unwrap()).unwrap();
        let during = clock();
        drop(ahead);
        let after = clock();
        assert!((3590..3610).contains(&(during - before)), "{before} {during}");
        assert!((0..10).contains(&(after - before)), "{before} {after}");
    }
}
