mod ends;
mod flow;
mod rig;
