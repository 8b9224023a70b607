mod pg;
mod sys;
