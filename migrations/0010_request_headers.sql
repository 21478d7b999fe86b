-- What a request said that was not accepted: [[name, value], …], with secrets taken out.

alter table hookpack.request_log add headers json;
