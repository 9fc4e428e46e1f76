//! The run's own certificate.

use std::fs;
use std::path::Path;

use crate::Failure;
use crate::stream::NAME;

/// Writes `tls.crt`, `tls.key`, and both in one file as `tls.pem`, for who wants it so. ECDSA on P-256, as most sites have.
pub(crate) fn write(dir: &Path) -> Result<(), Failure> {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(dir.join("tls.crt"), &certificate)?;
    fs::write(dir.join("tls.key"), &key)?;
    fs::write(dir.join("tls.pem"), certificate + &key)?;
    Ok(())
}
