module github.com/mayflyhq/mayfly/tools/apigen

go 1.26
