module orlop.internal/payload/tools

go 1.26.0
