module orlop.internal/payload/testpod

go 1.26.0
