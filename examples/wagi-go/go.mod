module wagi-go

go 1.24
