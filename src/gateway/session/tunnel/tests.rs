mod closes;
mod ends;
mod flow;
mod losses;
mod pauses;
mod rig;
